"""A study small enough to test with: the declarations of the paper cut to a few rows, a few units and two epochs."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("**/*.ipynb"))
LESSONS = sorted(set((ROOT / "notebooks").glob("**/*.ipynb")) - set(SOLUTIONS))  # the notebooks that a study executes
ROWS = {
    "table1": {"iemocap", "meld"},
    "table2": {"sc_lstm", "multiemo", "ours", "ours_as_published", "majority", "bigru"},
    "table3": {"multiemo", "ours", "logistic"},
    "table4": {"ours", "wo_dialoguecrn", "wo_simam"},
    "table5": {"alpha_0_4", "alpha_0_8", "tau_0_5"},
    "table_encoders": {"roberta", "minilm_1e4", "bigru", "bigru_tuned"},
}
TWIN = """[twin]
substitute.frozen_text = true
model.dim = 16
model.context.global_dim = 16
model.context.party_dim = 16
model.context.emotion_dim = 16
model.encoder.layers = 1
model.encoder.ff = 16
model.fusion.layers = 1
model.fusion.ff = 16
model.head.hidden = 16
model.hidden = 8
train.lr = 0.01
train.batch = 64
train.epochs = 2
"""


def declare(folder: Path, *, every_row: bool = False) -> None:
    """Write the cut declarations of every paper into `folder`/papers; with every_row, only their twins are smaller."""
    for source in sorted((ROOT / "papers").glob("*/paper.toml")):
        without = shutil.ignore_patterns("claims.toml")  # claims speak of rows that are cut
        paper = shutil.copytree(source.parent, folder / "papers" / source.parent.name, ignore=without)
        text = re.split(r"^\[twin_media\]\n", source.read_text(), flags=re.MULTILINE)[0]
        before, after = re.split(r"^\[twin\]\n", text, flags=re.MULTILINE)
        assert not re.search(r"^\[", after, flags=re.MULTILINE), (
            "[twin] is expected to be the last section, but for [twin_media]"
        )
        one = re.sub(r"^train\.epochs = .*$", "train.epochs = 1", after, flags=re.MULTILINE)
        (paper / "paper.toml").write_text(before + (TWIN if paper.name == "mfcre" else f"[twin]\n{one}"))
        for table in () if every_row else (paper / "tables").glob("*.toml"):
            _cut(table, ROWS.get(table.stem, set()) if paper.name == "mfcre" else _shown(paper.name, table))


def _shown(paper: str, table: Path) -> set[str]:
    """Rows of a table in a tiny study: facts, the first two of our own, a floor, and those that a notebook names."""
    rows = tomllib.loads(table.read_text())["row"]
    text = "".join(p.read_text() for p in (ROOT / "notebooks" / paper).glob("*.ipynb"))
    own = [row["id"] for row in rows if not row.get("cited") or "base" in row]
    named = {row for row in own if f'\\"{row}\\"' in text}
    chosen = {row["id"] for row in rows if row.get("kind") == "fact"} | set(own[:2]) | named | ({"logistic"} & set(own))
    return chosen | {row["same_as"] for row in rows if row["id"] in chosen and "same_as" in row}


def _cut(table: Path, ids: set[str]) -> None:
    head, *rows = re.split(r"^(?=\[\[row\]\])", table.read_text(), flags=re.MULTILINE)
    rows = [row for row in rows if re.search(r'^id = "(.+)"', row, re.MULTILINE)[1] in ids]
    table.write_text(head + "".join(rows))
    if not rows:
        table.unlink()


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment variables with which merlib reads and writes only below `folder`, on one thread."""
    places = {"MERLIB_DATA": folder / "data", "MERLIB_RESULTS": folder / "results", "MERLIB_PAPERS": folder / "papers"}
    fixed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return os.environ | {name: str(path) for name, path in places.items()} | fixed | more


def batch(folder: Path, *arguments: str, snakefile: Path = ROOT / "Snakefile", **config: str) -> list[str]:
    """The command of a batch as `make reproduce` runs it, with its lock and Snakemake's own files in `folder`."""
    run = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    settings = [f"{key}={value}" for key, value in config.items()]
    flags = ["--profile", str(ROOT / "profiles" / "common"), "--cores", "2", *arguments, "--config", *settings]
    return ["flock", str(folder / "batch.lock"), *run, *flags]
