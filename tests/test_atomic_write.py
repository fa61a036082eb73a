"""Files that appear whole, on the disk, and leave nothing behind."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from leukodash import atomic_write
from leukodash.atomic_write import is_full, move, replacing, sweep, temporary_name, write_atomic


@pytest.fixture
def order(monkeypatch):
    """What happens to files, in order: a name that is flushed, or "rename"."""
    happened = []
    flush, rename = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: happened.append(Path(f"/proc/self/fd/{number}").readlink().name) or flush(number)
    )
    monkeypatch.setattr(Path, "replace", lambda *paths: happened.append("rename") or rename(*paths))
    return happened


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_call_returns(tmp_path, order):
    path = tmp_path / "folder" / "metrics.json"
    write_atomic(path, b"{}")
    assert order == [temporary_name(path).name, "rename", "folder"]


def test_progress_is_not_worth_waiting_for_the_disk(tmp_path, order):
    write_atomic(tmp_path / "status.json", b"{}", durable=False)
    assert order == ["rename"]


def test_a_folder_is_flushed_with_its_files(tmp_path, order):
    with replacing(tmp_path / "run") as folder:
        folder.mkdir()
        (folder / "config.json").touch()
    assert order == ["config.json", folder.name, "rename", tmp_path.name]


def test_a_move_is_on_the_disk_in_both_folders_before_the_call_returns(tmp_path, order):
    (tmp_path / "run").mkdir()
    (tmp_path / "trash").mkdir()
    move(tmp_path / "run", tmp_path / "trash" / "run")
    assert order == ["rename", tmp_path.name, "trash"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "about.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "run") as folder:
        folder.mkdir()
        (folder / "config.json").touch()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["about.json"]


def dead_process():
    """The number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def test_leftovers_of_killed_processes_are_removed_by_the_next_write_and_those_of_living_ones_stay(tmp_path):
    host, old = atomic_write._HOST, time.time() - 25 * 3600
    left = [f".a.tmp-{host}-{dead_process()}-1.json", f".run-1.tmp-{host}-{dead_process()}-1", ".a.tmp-elsewhere-1-1"]
    kept = [f".a.tmp-{host}-{os.getppid()}-1.json", ".a.tmp-elsewhere-1-2", ".hidden", "a.tmp-notes"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    (tmp_path / left[1]).unlink()
    (tmp_path / left[1] / "inside").mkdir(parents=True)
    os.utime(tmp_path / left[2], (old, old))
    write_atomic(tmp_path / "about.json", b"{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "about.json"])
    sweep(tmp_path / "nowhere")  # no folder, nothing to do


def test_a_full_disk_is_told_from_other_faults():
    assert is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_full(OSError("Can't write data (errno = 28, error message = 'No space left on device')"))  # HDF5
    assert not is_full(PermissionError(errno.EACCES, "Permission denied"))
