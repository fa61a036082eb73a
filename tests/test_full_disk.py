"""Disks that are full, or cannot be written: a few of the faults of ``python -m benchmarks full_disks``."""

import contextlib
import errno
import random
import subprocess
from pathlib import Path

import pytest

from benchmarks.full_disks import LARGE, PIECES, SMALL, closed, full, small_disk, starve
from leukodash import settings
from leukodash.config.presets import make_config
from leukodash.errors import RunError
from leukodash.jobs import launch as jobs
from leukodash.runs.access import change_about
from leukodash.runs.run_folder import create_run
from leukodash.runs.status import Status


@pytest.fixture
def no_space(monkeypatch):
    """Return a function that makes the disk full, or free again."""
    real = Path.write_bytes

    def write(path, content):
        real(path, b"")  # the file is there, and empty
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda is_full: monkeypatch.setattr(Path, "write_bytes", write if is_full else real)


def test_on_a_full_disk_starting_naming_and_resuming_say_so_and_leave_nothing(demo, no_space):
    run = create_run(make_config("quick", "alexnet", demo))
    run.write("status.json", {"state": "stopped"})
    before = sorted(path.name for path in settings.checkpoints().rglob("*"))
    no_space(True)
    for action in (
        lambda: jobs.start(run.config),
        lambda: change_about(run, title="New"),
        lambda: jobs.resume(run),
    ):
        with pytest.raises(RunError, match="The disk that runs are kept on is full"):
            action()
    kept = {path.name for path in settings.checkpoints().rglob("*")} - {".queue", "starting.lock"}
    assert sorted(kept) == before
    no_space(False)
    change_about(run, title="New")
    assert (run.about["title"], run.state) == ("New", "stopped")


def test_a_full_disk_does_not_keep_a_run_from_saying_how_it_ended(demo, no_space):
    run = create_run(make_config("quick", "alexnet", demo))
    status = Status(run.path)
    status.set(state="running", stage="training", message="something long enough to be replaced by less")
    no_space(True)
    status.set(state="failed", error="The disk is full.", message="")
    assert (run.state, run.status["error"]) == ("failed", "The disk is full.")


@pytest.fixture
def folder(tmp_path):
    """A small disk of its own."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk"))
        except (subprocess.CalledProcessError, FileNotFoundError):
            pytest.skip("only root can mount a small disk")
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("work", ["import", "cells"])
def test_work_on_a_full_disk_is_refused_in_a_sentence_and_goes_on_when_there_is_room(work, folder):
    left = random.Random(work).random() * LARGE.get(work, SMALL) / 4
    found = starve(work, folder, full(folder, left))
    assert not found["problems"]
    assert found["refused"]


@pytest.mark.slow
def test_work_that_may_not_write_is_refused_in_a_sentence_and_goes_on_when_it_may(folder):
    found = starve("about", folder, closed(folder))
    assert not found["problems"]
    assert len(found["refused"]) == PIECES
