"""The batch: executes the notebooks of each paper (once for each table if a notebook takes one) and writes the report.

    python -m snakemake --cores 2 --config data=twin paper=mfcre table=4,5 seeds=0,1,2    (as `make reproduce` calls it)

config: `data`, a data root (default twin); `paper` and `table`, comma-separated lists that narrow the batch (default
all; the table `readings`, the range over all readings of a paper, runs only when named); `seeds`, a comma-separated
list (default 0); `threads` of each job (default 1). A job is one `merlib notebook`. It is due when its notebook, its
paper, the code, the data or its parameters have changed, and then trains only the runs that are not in results/cache.
Snakemake limits each job to its threads, so that numbers do not depend on how many jobs share the cores. A paper is
left out, with a notice, if the data root has none of its corpora.

Every job takes one `gpu`: with `--resources gpu=4`, at most four jobs run on the GPU at once. No network is needed.
"""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from merlib import declarations, twins
from merlib.cli import headless
from merlib.data import folders
from merlib.places import MEDIA_SCALE, TWINS, results_folder

ROOT = Path(workflow.basedir)
DATA = str(config.get("data") or "twin")
PAPERS = [name for name in str(config.get("paper") or "").split(",") if name] or declarations.papers()
TABLES = [f"table{name}" if name.isdigit() else name for name in str(config.get("table") or "").split(",") if name]
for name in TABLES:
    if not any(name in declarations.load(paper).tables for paper in PAPERS):
        declarations.load(PAPERS[0]).table(name)  # raises an error that lists the tables
SEEDS = [int(seed) for seed in str(config.get("seeds", 0)).split(",")]
for name in list(PAPERS):
    corpora = declarations.load(name).corpora
    if not set(corpora) & set(twins.offered(DATA)):
        reason = f"none of its corpora ({', '.join(corpora)}) is in the root {DATA!r}: see merlib doctor"
        print(f"{name}: {reason}", file=sys.stderr)
        PAPERS.remove(name)
RESULTS = results_folder(DATA).resolve()
CODE = sorted(ROOT.glob("merlib/**/*.py"))
# The code makes the synthetic roots, at a scale; a job on another root is due when one of the root's files has changed.
SCALE = MEDIA_SCALE if DATA == "twin_media" else 1.0
MARKERS = [] if DATA in TWINS else sorted(f for f in folders.root_path(DATA).resolve().glob("*/**/*") if f.is_file())


def job(source, name, needs, priority, **parameters):
    """One execution of a notebook, with those of the parameters that it declares."""
    declared = headless.parameters(source)
    flags = [f"-p {key} {shlex.quote(str(value))}" for key, value in parameters.items() if key in declared]
    folder = source.parent.relative_to(ROOT / "notebooks")
    target, log = RESULTS / "notebooks" / folder / f"{name}.ipynb", RESULTS / "logs" / folder / f"{name}.log"
    inputs = {"source": source, "needs": [*needs, *CODE, *MARKERS]}
    return inputs | {"target": target, "log": log, "flags": " ".join(flags), "priority": priority}


def jobs(paper):
    """The jobs of a paper, in order. A notebook with a parameter `table` runs once for each table, the others once.

    A notebook without it runs only if all its tables are in the batch. Notebooks about one table run one after another.
    """
    declared = declarations.load(paper)
    wanted = [name for name in declared.tables if name in (TABLES or set(declared.tables) - {"readings"})]
    needs = sorted(declarations.folders()[paper].resolve().glob("**/*.toml"))
    planned, copies = [], {}  # copies: table -> the notebooks about it so far, with their executed copies
    for source in sorted((ROOT / "notebooks" / paper).glob("*.ipynb")):
        about = headless.tables(source)
        together = [about] if set(about) <= set(wanted) else []
        for tables in [[t] for t in about if t in wanted] if "table" in headless.parameters(source) else together:
            name = source.stem if tables == about else f"{source.stem}_{tables[0]}"
            earlier = [target for table in tables for other, target in copies.get(table, []) if other != source]
            rows = sum(len(declared.table(t).row) for t in tables)  # long tables first: no core idles at the end
            planned.append(job(source, name, needs + earlier, rows, table=tables[0], data=DATA, seeds=SEEDS))
            for table in tables:
                copies.setdefault(table, []).append((source, planned[-1]["target"]))
    return planned


JOBS = [item for paper in PAPERS for item in jobs(paper)]
if not config.get("paper") and not TABLES:
    for source in sorted(ROOT.glob("notebooks/*.ipynb")):
        paper = headless.parameters(source).get("address", "").split("/")[0]  # whose number it follows, if any
        if paper in ("", *PAPERS):
            JOBS.append(job(source, source.stem, [], 0, data=DATA))


rule report:
    input:
        [item["target"] for item in JOBS],
    output:
        RESULTS / "report.md",
    log:
        RESULTS / "logs" / "report.log",
    shell:
        "{sys.executable:q} -m merlib report --data {DATA:q} > {log:q} 2>&1 || {{ tail -n 3 {log:q} >&2; exit 1; }}"


for item in JOBS:

    rule:
        name:
            item["target"].relative_to(RESULTS / "notebooks").with_suffix("").as_posix().replace("/", "_")
        input:
            notebook=item["source"],
            needs=item["needs"],
        output:
            item["target"],
        log:
            item["log"],
        params:
            flags=item["flags"],
            scale=SCALE,
        priority: item["priority"]
        threads: int(config.get("threads", 1))
        resources:
            gpu=1,
        shell:
            "{sys.executable:q} -m merlib notebook {input.notebook:q} {output:q} {params.flags} > {log:q} 2>&1 "
            "|| {{ tail -n 3 {log:q} >&2; exit 1; }}"
