"""What several tests share: a data folder of their own, and the real data, which is never in the repository."""

import importlib.util
import os
from pathlib import Path

import pytest

from merlib.places import CHECKOUT


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> Path:
    """An empty $MERLIB_DATA."""
    monkeypatch.setenv("MERLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """A folder with an empty $MERLIB_DATA and $MERLIB_RESULTS, and nothing remembered of others."""
    from merlib.study import runs

    monkeypatch.setenv("MERLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MERLIB_RESULTS", str(tmp_path / "results"))
    runs._dataset.cache_clear()
    return tmp_path


@pytest.fixture
def twin(places) -> Path:
    """Such a folder, and the twin of every corpus."""
    from merlib import twins

    twins.ensure("twin", twins.corpora())
    return places


@pytest.fixture
def tiny(places, monkeypatch) -> Path:
    """Such a folder, and a tiny twin."""

    from merlib import twins

    monkeypatch.setattr(twins, "SCALE", 0.04)
    twins.ensure("twin", twins.corpora())
    return places


@pytest.fixture(scope="session")
def small() -> dict:
    """The dialogue twin of every corpus, at a tenth of its size; tests must not change them."""
    from merlib.twins import dialogues

    return {name: dialogues.make(name, scale=0.1)[0] for name in dialogues.TWINS}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora, $MERLIB_SHARED_DATA; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("MERLIB_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora in {folder}; set MERLIB_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def prepare():
    """The module results/real/prepare.py, which prepares the data root of the records on real data."""
    file = CHECKOUT / "results" / "real" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def exit_status_of():
    """A function that does `work` in a forked process and gives its exit status; negative when a signal ended it."""

    def forked(work) -> int:
        if not (pid := os.fork()):
            try:
                work()
            except BaseException:  # noqa: BLE001 (the child must not return into the test)
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return forked
