"""A file that is written is the old one or the new one, never half of either; a sealed one is known again."""

import errno
import os
import shutil
import signal

import pytest

from merlib import files
from merlib.files import atomic, is_as_written, is_sound, seal_of


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


def write(path, content: bytes, **options) -> None:
    with atomic(path, **options) as part:
        part.write_bytes(content)


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_what_another_writes_is_not(tmp_path, exit_status_of):
    def write_and_die():
        with atomic(tmp_path / "one"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert exit_status_of(write_and_die) == -signal.SIGKILL
    (orphan,) = tmp_path.iterdir()
    with atomic(tmp_path / "two") as mine:  # this process has not written here before
        assert exit_status_of(lambda: write(tmp_path / "three", b"")) == 0
        assert mine.exists() and not orphan.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "two"]


def test_a_full_disk_is_named_by_the_file(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError, match=f"{path} could not be written .*free space and run again"), atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


DAMAGE = {
    "a flipped bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "of another folder": lambda path: [shutil.copy(each(path.parent.parent / "b" / path.name), each(path))
                                       for each in (lambda one: one, seal_of)],
    "under another name": lambda path: [each(path.with_name("other")).replace(each(path))
                                        for each in (lambda one: one, seal_of)],
    "without a seal": lambda path: seal_of(path).unlink(),
    "with a seal of rubbish": lambda path: seal_of(path).write_bytes(b"\xff\x00"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_not_as_it_was_written_is_set_aside_with_one_line(tmp_path, capsys, damage):
    path = tmp_path / "a" / "file"
    for place in (path, tmp_path / "b" / "file", tmp_path / "a" / "other"):
        write(place, place.name.encode() + place.parent.name.encode(), sealed=True)
    assert is_sound(path) and is_as_written(path) and capsys.readouterr().err == ""
    damage(path)
    assert not is_sound(path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"merlib: {path} ") and "file.damaged" in line
    assert not path.exists() and path.with_name("file.damaged").exists()
    assert not is_sound(path) and capsys.readouterr().err == "", "what is not there is not damaged"
    write(path, b"again", sealed=True)
    assert is_sound(path) and path.read_bytes() == b"again"


def test_kills_at_any_moments_of_sealed_writes_leave_a_file_that_its_seal_fits(tmp_path, exit_status_of, monkeypatch):
    path = tmp_path / "file"
    write(path, b"old", sealed=True)
    replace, replaced = os.replace, []

    def die_before(number, content):
        def counting(*names):
            replaced.append(names)
            if len(replaced) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*names)

        monkeypatch.setattr(files.os, "replace", counting)
        write(path, content, sealed=True)
        os._exit(7)

    for number, content in ((1, b"new"), (2, b"never there"), (2, b"new"), (1, b"new")):  # the seal, then the file
        assert exit_status_of(lambda at=number, new=content: die_before(at, new)) == -signal.SIGKILL
        assert path.read_bytes() == b"old" and is_as_written(path)
    assert exit_status_of(lambda: die_before(3, b"new")) == 7 and path.read_bytes() == b"new" and is_as_written(path)
    path.write_bytes(b"never there")
    assert not is_as_written(path)
