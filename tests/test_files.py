"""A file that is written is the old one or the new one, never half of either."""

import os
import signal

import pytest

from merlib.files import atomic


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path, exit_status_of):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with atomic(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert exit_status_of(write) == -signal.SIGKILL
    assert path.read_text() == "old"
    with atomic(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
