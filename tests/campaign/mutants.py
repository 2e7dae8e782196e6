"""Errors planted in the code, one at a time: how many do the tests notice? (mutation testing, by mutmut)

    pip install mutmut==3.8.1
    python tests/campaign/mutants.py [--sample 300] [--seed 0 1] [--only 'merlib/papers/*'] [--folder FOLDER]

An error is an operator, a constant, a comparison, an argument or a call that is another one, in one function of those
parts that compute numbers (`MUTATED`). Left out are texts of more than one word (messages) and what stands in a
`raise`. Of all others a random sample (of each seed one) is tried, each against the tests that call its function. An
error that changes nothing is named in `equivalent.toml`, with the reason. Exits with 1 where fewer than 92 % of the
others in a sample are noticed.

`--folder` keeps the copy of the checkout in which it is done: the next call there only tries what is new, and what was
not noticed.
"""

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
MUTATED = ["papers", "baselines", "layers", "training", "study", "audit", "data"]  # folders of merlib
NOT_IN_A_COPY = ["study/test_sixth_paper.py", "declarations/test_notes.py"]  # tests that look at the whole checkout
TESTS = [*MUTATED, "declarations", "figures", "features/test_declared.py", "roots"]  # those of the code that is mutated
SETTINGS = """
[tool.mutmut]
source_paths = ["merlib"]
only_mutate = {only}
also_copy = {files}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {options}
do_not_mutate_patterns = ['^\\s*raise ']
process_isolation = "forkserver"
timeout_constant = 30.0
use_git_change_detection = false
debug = true
"""
ENOUGH = 0.92
NOTICED, SURVIVED, UNTESTED = {1, 3, 24, 36, 152, 255, -24, -11, -9}, {0}, {5, 33}  # exit codes in mutmut's files


def prepare(folder: Path, only: list[str]) -> None:
    """A copy of the checkout in `folder`, with settings for mutmut."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file() and not (target.exists() and target.read_bytes() == (ROOT / name).read_bytes()):
            shutil.copy2(ROOT / name, target)
    tests = [f"tests/{name}" for name in TESTS]
    files = sorted({Path(name).parts[0] for name in listed.splitlines()} - {"merlib", "tests", "pyproject.toml"})
    options = ["-p", "no:cacheprovider", *(f"--deselect=tests/{name}" for name in NOT_IN_A_COPY)]
    settings = SETTINGS.format(
        options=json.dumps(options), only=json.dumps(only), files=json.dumps(files), tests=json.dumps(tests)
    )
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


PLANT = """
from pathlib import Path
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(2)
"""  # what `mutmut run` begins with; it has no command of its own


def python(folder: Path, *words: str) -> None:
    path = os.pathsep.join([str(folder / "mutants"), os.environ.get("PYTHONPATH", "")])
    fixed = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MERLIB_COMMIT": "mutants"}
    log = folder / "mutmut.log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=os.environ | fixed, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        failed = [line for line in log.read_text().splitlines() if line.startswith("FAILED")]
        sys.exit(f"mutmut stopped; all that it said is in {log}, of failed tests: {failed}")


def planted(folder: Path) -> dict[str, tuple[str, str]]:
    """Name of an error -> its function (as mutmut calls it), and what it changes: `old -> new`."""
    found = {}
    for meta in sorted((folder / "mutants").rglob("*.py.meta")):
        names = json.loads(meta.read_text())["exit_code_by_key"]
        source = meta.with_suffix("").read_text()
        functions = {
            node.name: node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        dumped = cache(_without_texts)
        for name in names:
            short = name.rpartition(".")[2]
            place = name.partition("__mutmut_")[0]
            original = functions.get(f"{short.partition('__mutmut_')[0]}__mutmut_orig")
            mutant = functions.get(short)
            if original is not None and mutant is not None and dumped(original) != dumped(mutant):
                found[name] = place, _change(original, mutant)
    return found


def _change(original: ast.FunctionDef, mutant: ast.FunctionDef) -> str:
    """The lines that differ, as `old -> new`."""
    old, new = (ast.unparse(node).splitlines()[1:] for node in (original, mutant))
    differences = [line for line in difflib.ndiff(old, new) if line[:2] in ("- ", "+ ")]
    removed = " ".join(line[2:].strip() for line in differences if line[0] == "-")
    added = " ".join(line[2:].strip() for line in differences if line[0] == "+")
    return f"{removed} -> {added}"


def _without_texts(function: ast.FunctionDef) -> str:
    """What a function does, but for texts of more than one word and its name."""

    class Blank(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.Constant:
            return ast.Constant("") if isinstance(node.value, str) and " " in node.value.strip() else node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            node.name = ""
            return self.generic_visit(node)

    return ast.dump(Blank().visit(ast.parse(ast.unparse(function)).body[0]))


def results(folder: Path) -> dict[str, int | None]:
    files = (folder / "mutants").rglob("*.py.meta")
    return {name: code for file in files for name, code in json.loads(file.read_text())["exit_code_by_key"].items()}


def report(about: dict[str, tuple[str, str]], codes: dict[str, int | None], sample: list[str], title: str) -> float:
    """Print which errors of a sample were not noticed; returns the share that was, of those that change anything."""
    equivalent = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())["mutant"]
    known = {(each["function"], each["change"]) for each in equivalent}
    rows = [(*about[name], codes[name], about[name] in known) for name in sample]
    tried = pd.DataFrame(rows, columns=["function", "change", "code", "equivalent"])
    counted = tried[~tried["equivalent"]]
    noticed = counted["code"].isin(NOTICED).mean()
    same = f"{len(tried)} tried, {len(tried) - len(counted)} change nothing"
    print(f"\n{title}: {len(about)} errors can be planted; {same}.")
    for one in counted[~counted["code"].isin(NOTICED)].sort_values("function").itertuples():
        print(f"{'no test' if one.code in UNTESTED else 'not noticed'}: {one.function}: {one.change}")
    print(f"noticed: {100 * noticed:.1f} % of {len(counted)}")
    return noticed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[f"merlib/{name}/*" for name in MUTATED])
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, args.only)
        if not (folder / "mutants").exists():
            python(folder, "-c", PLANT)
        about = planted(folder)
        samples = [random.Random(seed).sample(sorted(about), min(args.sample, len(about))) for seed in args.seed]
        before = results(folder)
        if due := sorted({name for sample in samples for name in sample if before[name] not in NOTICED}):
            python(folder, "-m", "mutmut", "run", *due)
        codes = results(folder)
    shares = [report(about, codes, sample, f"seed {seed}") for seed, sample in zip(args.seed, samples, strict=True)]
    sys.exit(bool(min(shares) < ENOUGH))


if __name__ == "__main__":
    main()
