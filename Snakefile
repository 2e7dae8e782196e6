"""The batch: makes the data of a synthetic root, trains every run once, executes the notebooks and writes the report.

    python -m snakemake --cores 2 --config data=twin paper=mfcre table=4,5 seeds=0,1,2    (as `make reproduce` calls it)

config: `data`, a data root (default twin); `paper` and `table`, comma-separated lists that narrow the batch (default
all; a table that is `when_named`, such as the range over all readings of a paper, runs only then); `seeds`, a
comma-separated list (default 0); `draws`: joint choices of all readings that each paper runs under, too (default 0);
`threads` of each job (default 1); `job_seconds`: a job of less is joined by further runs (default 60). A paper is left
out, with a notice, if the data root has none of its corpora.

Its stages: `corpus` makes a corpus of a synthetic root; `learn` trains the encoders whose vectors the tables read, such
as a text stage, where another root has what these encoders read (`[learned.*]` of a paper.toml); `plan` lists the runs
that the tables need; `train` and `floors` train those that are not in results/cache, of networks and of estimators, the
longest first; `multiverse` trains the draws, a job a paper and seed; each notebook has a rule, which executes it;
`report` judges the claims and compares. A run is known by all that determines its numbers (merlib/study/identity.py),
so that no edit of code makes it due unless it changes these. A notebook is due when it, its parameters, its paper, its
data or the code that it loaded last time have changed. Where a run fails, the notebooks of its tables are not executed,
and everything else is.
"""

import json
import shlex
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from merlib import declarations, twins
from merlib.cli import arguments, headless
from merlib.data import folders
from merlib.errors import RequestError
from merlib.places import TWINS, media_scale, results_folder, root_name

ROOT = Path(workflow.basedir)
if isinstance(data := config.get("data", "twin"), (bool, float)):
    raise RequestError(f"Snakemake took data={data} for a number: quote it twice, --config \"data='...'\"")
DATA = root_name("" if data is None else str(data))


def words(key):
    """The comma-separated words of a setting, each once; none where it is empty."""
    value = config.get(key)
    return list(dict.fromkeys(word for word in str("" if value is None else value).split(",") if word))


SEEDS = ",".join(map(str, arguments.integers(",".join(words("seeds") or "0"))))
JOB_SECONDS = float(config.get("job_seconds", 60))
THREADS = int(config.get("threads", 1))
DRAWS = int(config.get("draws") or 0)
RESULTS, CACHE = results_folder(DATA).resolve(), results_folder("cache").resolve()
PLAN = RESULTS / "plan.json"
FOLDER = folders.root_path(DATA).resolve()
FIRST_FOLD = FOLDER / "{corpus}" / "features" / (declarations.array_of("{name}").replace("{fold}", "0") + ".safetensors")
DRAWN = CACHE / "jobs" / DATA / f"{{paper}}-{DRAWS}-draws-seed-{{seed}}.done"
CODE = sorted(ROOT.glob("merlib/**/*.py"))
LOGGED = " > {log:q} 2>&1 || {{ tail -n 3 {log:q} >&2; exit 1; }}"
SCALE = media_scale() if DATA == "twin_media" else 1.0  # another one makes the synthetic root, and all that reads it, due

for folder in (ROOT, FOLDER, RESULTS):
    if {"{", "}"} & set(str(folder)):
        raise RequestError(f"{folder}: Snakemake takes braces in a path for a wildcard; name the folder otherwise")
PAPERS = words("paper") or declarations.papers()
TABLES = [f"table{name}" if name.isdigit() else name for name in words("table")]
for name in TABLES:
    if not any(name in declarations.load(paper).tables for paper in PAPERS):
        declarations.load(PAPERS[0]).table(name)  # raises an error that lists the tables
CORPORA = {paper: sorted(set(declarations.load(paper).corpora) & set(twins.offered(DATA))) for paper in PAPERS}
for name in [paper for paper in PAPERS if not CORPORA[paper]]:
    PAPERS.remove(name)
    missing = ", ".join(declarations.load(name).corpora)
    print(f"{name}: none of its corpora ({missing}) is in the root {DATA!r}: see merlib doctor", file=sys.stderr)
BATCH = {paper: declarations.load(paper).tables_of_batch(TABLES) for paper in PAPERS}  # paper -> its tables


def data_of(paper):
    """The files of a paper's corpora: of a synthetic root, those that the rule `corpus` makes."""
    if DATA in TWINS:
        return [FOLDER / corpus / "corpus.json" for corpus in CORPORA[paper]]
    return sorted(file for corpus in CORPORA[paper] for file in (FOLDER / corpus).rglob("*") if file.is_file())


def learned_of(paper):
    """The arrays of a paper's corpora that encoders have to learn first: of each seed, that of the first fold."""
    arrays = {corpus: folders.arrays(DATA, corpus) for corpus in CORPORA[paper] if DATA not in TWINS}
    wanted = declarations.wanted(declarations.load(paper), BATCH[paper], arrays)
    files = [str(FIRST_FOLD).format(corpus=corpus, name=name, seed="{seed}") for corpus, name in wanted]
    return [file.format(seed=seed) for file in files for seed in SEEDS.split(",")]


def drawn_of(paper, source):
    """The marks of the jobs that train the draws that a notebook shows."""
    shows = DRAWS and "notebook.multiverse(" in source.read_text(encoding="utf-8")
    return [str(DRAWN).format(paper=paper, seed=seed) for seed in SEEDS.split(",")] if shows else []


def declarations_of(paper):
    return sorted(declarations.folders()[paper].resolve().glob("**/*.toml"))


def code_of(loaded):
    """The files of code that a job loaded when it last ran, which it left in the file `loaded`; all before it ran."""
    files = map(Path, loaded.read_text().splitlines()) if loaded.exists() else CODE
    return [file for file in files if file.exists()]


def jobs_of_plan():
    """The trainings that are due, by rule and job, as `plan` left them; a job on a cluster knows no checkpoint."""
    return _jobs(PLAN, PLAN.stat().st_mtime_ns)


@cache
def _jobs(file, changed):
    jobs = {(job["rule"], job["job"]): job for job in json.loads(file.read_text())["jobs"]}
    for mark in [mark_of(*key) for key in jobs]:
        if mark.exists() and mark.stat().st_mtime_ns < changed:
            mark.unlink(missing_ok=True)  # what the job trained has left the cache since: the plan says that it is due
    return jobs


def mark_of(rule, name):
    """The file that a finished job leaves."""
    return CACHE / "jobs" / f"{rule}-{name}.done"


def trained(addresses):
    """The marks of the jobs that train what these tables (paper/table) need."""
    needed = set(addresses)
    return lambda _: checkpoints.plan.get() and [
        ancient(mark_of(rule, name))  # a run has the same numbers whenever it was trained
        for (rule, name), job in jobs_of_plan().items()
        if needed & set(job["tables"])
    ]


def of_job(rule, value):
    """A function of Snakemake's that returns a value of a job of the plan, grown with every attempt."""
    return lambda wildcards, attempt: value(jobs_of_plan()[rule, wildcards.job]) * 2 ** (attempt - 1)


def command(rule):
    def of_run(wildcards):
        job = jobs_of_plan()[rule, wildcards.job]
        return f"{job['address']} --seeds {','.join(map(str, job['seeds']))} --only {','.join(job['runs'])}"

    return of_run


def execution(source, name, needs, **parameters):
    """One execution of a notebook, with those of the parameters that it declares."""
    declared = headless.parameters(source)
    flags = [f"-p {key} {shlex.quote(str(value))}" for key, value in parameters.items() if key in declared]
    folder = source.parent.relative_to(ROOT / "notebooks")
    target, log = RESULTS / "notebooks" / folder / f"{name}.ipynb", RESULTS / "logs" / folder / f"{name}.log"
    code = log.with_suffix(".code")
    about = {"source": source, "target": target, "log": log, "code": code, "needs": [*needs, *code_of(code)]}
    return about | {"flags": " ".join(flags)}


def executions(paper):
    """The executions of a paper's notebooks: once for each table where a notebook has a parameter `table`, else once.

    A notebook without it runs only if all its tables are in the batch.
    """
    for source in sorted((ROOT / "notebooks" / paper).glob("*.ipynb")):
        about = headless.tables(source)
        together = [about] if set(about) <= set(BATCH[paper]) else []
        each = [[name] for name in about if name in BATCH[paper]] if "table" in headless.parameters(source) else together
        for tables in each:
            name = source.stem if tables == about else f"{source.stem}_{tables[0]}"
            needs = declarations_of(paper) + data_of(paper) + drawn_of(paper, source)
            about_tables = {"table": tables[0], "data": DATA, "seeds": f"[{SEEDS}]"}
            yield execution(source, name, needs, **about_tables) | {"runs": [f"{paper}/{name}" for name in tables]}


EXECUTIONS = [item for paper in PAPERS for item in executions(paper)]
if not config.get("paper") and not TABLES:
    for source in sorted(ROOT.glob("notebooks/*.ipynb")):
        paper = headless.parameters(source).get("address", "").split("/")[0]  # whose number it follows, if any
        if paper in ("", *PAPERS):
            needs = [file for name in PAPERS for file in declarations_of(name)]
            EXECUTIONS.append(execution(source, source.stem, needs, data=DATA) | {"runs": []})


onstart:
    # Snakemake 9.27 otherwise looks through the inputs of all jobs that are due, each second once for every job that has
    # ended so far: it keeps its limit of jobs per second that way, and takes most of a core.
    workflow.scheduler.job_rate_limiter = None


localrules:
    plan,
    report,


rule report:
    input:
        [item["target"] for item in EXECUTIONS],
        CODE,
    output:
        RESULTS / "report.md",
        RESULTS / "claims.csv",
    log:
        RESULTS / "logs" / "report.log",
    shell:
        "({sys.executable:q} -m merlib claims --data {DATA:q} --write > /dev/null"
        " && {sys.executable:q} -m merlib report --data {DATA:q})" + LOGGED


if DATA in TWINS:

    rule corpus:
        input:
            lambda wildcards: code_of(RESULTS / "logs" / "corpus" / f"{wildcards.corpus}.code"),
        output:
            update(FOLDER / "{corpus}" / "corpus.json"),
        log:
            RESULTS / "logs" / "corpus" / "{corpus}.log",
        params:
            code=str(RESULTS / "logs" / "corpus" / "{corpus}.code"),
            scale=SCALE,
        priority: 1e9
        threads: THREADS
        shell:
            "{sys.executable:q} -m merlib data make {DATA:q} {wildcards.corpus} --code {params.code:q}" + LOGGED


rule learn:
    output:
        FIRST_FOLD,
    log:
        RESULTS / "logs" / "learn" / "{corpus}" / "{name}_s{seed}.log",
    params:
        paper=lambda wildcards: next(name for name in PAPERS if wildcards.name in declarations.load(name).learned),
    wildcard_constraints:
        seed="[0-9]+",
    priority: 1e9
    threads: THREADS
    retries: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 600 * attempt,  # minutes, of all folds of one seed
    shell:
        "{sys.executable:q} -m merlib data fine-tune {DATA:q} {wildcards.corpus} {params.paper} {wildcards.name} "
        "--seeds {wildcards.seed}" + LOGGED


checkpoint plan:
    input:
        CODE,
        [file for paper in PAPERS for file in declarations_of(paper) + data_of(paper) + learned_of(paper)],
    output:
        PLAN,
    log:
        RESULTS / "logs" / "plan.log",
    params:
        tables=[f"{paper}/{table}" for paper in PAPERS for table in BATCH[paper]],
        seeds=SEEDS,
        seconds=JOB_SECONDS,
    shell:
        "{sys.executable:q} -m merlib plan {params.tables} --data {DATA:q} --seeds {params.seeds} "
        "--job-seconds {params.seconds} --json > {output:q} 2> {log:q} || {{ tail -n 3 {log:q} >&2; exit 1; }}"


for kind in ("train", "floors"):

    rule:
        name:
            kind
        output:
            touch(mark_of(kind, "{job}")),
        log:
            RESULTS / "logs" / kind / "{job}.log",
        params:
            command=command(kind),
        priority: of_job(kind, lambda job: job["seconds"] - 1e6 * job["rank"])
        threads: THREADS
        retries: 2
        resources:
            mem_mb=of_job(kind, lambda job: 1000 + 2 * job["memory_mb"]),
            runtime=of_job(kind, lambda job: 10 + round(job["seconds"] / 20)),  # minutes: three times what is predicted
        shell:
            "{sys.executable:q} -m merlib run {params.command} --data {DATA:q}" + LOGGED


rule multiverse:
    input:
        lambda wildcards: declarations_of(wildcards.paper) + data_of(wildcards.paper) + learned_of(wildcards.paper),
    output:
        touch(DRAWN),
    log:
        RESULTS / "logs" / "{paper}" / f"multiverse_{DRAWS}_{{seed}}.log",
    wildcard_constraints:
        seed="[0-9]+",
    threads: THREADS
    retries: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 600 * attempt,  # minutes; what is trained is kept
    shell:
        "{sys.executable:q} -m merlib multiverse {wildcards.paper} --draws {DRAWS} --seeds {wildcards.seed} "
        "--data {DATA:q}" + LOGGED


for item in EXECUTIONS:

    rule:
        name:
            item["target"].relative_to(RESULTS / "notebooks").with_suffix("").as_posix().replace("/", "_")
        input:
            notebook=item["source"],
            needs=item["needs"],
            runs=trained(item["runs"]),
        output:
            item["target"],
        log:
            item["log"],
        params:
            flags=item["flags"],
            code=item["code"],
            scale=SCALE,
        threads: THREADS
        shell:
            "{sys.executable:q} -m merlib notebook {input.notebook:q} {output:q} --code {params.code:q} {params.flags}" + LOGGED
