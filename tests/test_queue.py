"""The queue: one after the other, in order, and the dead block nobody. Real processes, light ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leukodash import settings
from leukodash.jobs import queue

WAITER = """
import sys, time
from pathlib import Path
from leukodash.jobs.queue import wait_for_device
from leukodash.runs.locks import Stopped
folder = Path(sys.argv[1])
try:
    with wait_for_device(folder) as device:
        with (folder.parent / "order").open("a") as file:
            file.write(f"{folder.name} {device}\\n")
        while (folder / "hold").exists():
            time.sleep(0.02)
except Stopped:
    (folder / "was-stopped").touch()
"""


@pytest.fixture
def checkpoints(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    folder = settings.checkpoints()
    folder.mkdir()
    return folder


@pytest.fixture
def waiter(checkpoints):
    """Start a process that waits for its turn and then holds its device until ``hold`` is removed."""
    started = []

    def start(name):
        (checkpoints / name).mkdir()
        (checkpoints / name / "hold").touch()
        command = [sys.executable, "-c", WAITER, str(checkpoints / name)]
        started.append(subprocess.Popen(command, cwd=Path(__file__).parents[1]))
        until(lambda: name in queue.waiting() or name in turns(checkpoints))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def turns(checkpoints):
    file = checkpoints / "order"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def let_go(checkpoints, name):
    (checkpoints / name / "hold").unlink()


def test_runs_take_turns_in_the_order_of_their_arrival(checkpoints, waiter):
    names = ["first", "second", "third", "fourth"]
    for name in names:
        waiter(name)
    assert turns(checkpoints) == ["first"]
    assert queue.waiting() == names[1:]
    for number, name in enumerate(names):
        until(lambda number=number: len(turns(checkpoints)) == number + 1)
        let_go(checkpoints, name)
    assert turns(checkpoints) == names


def test_a_killed_waiter_blocks_nobody(checkpoints, waiter):
    waiter("first")
    doomed = waiter("second")
    waiter("third")
    doomed.kill()
    doomed.wait()
    let_go(checkpoints, "first")
    until(lambda: "third" in turns(checkpoints))
    assert turns(checkpoints) == ["first", "third"]
    assert queue.waiting() == []


def test_a_killed_holder_frees_its_device(checkpoints, waiter):
    holder = waiter("first")
    waiter("second")
    holder.kill()
    until(lambda: "second" in turns(checkpoints))


def test_a_waiter_that_is_asked_to_stop_leaves_the_line(checkpoints, waiter):
    waiter("first")
    process = waiter("second")
    (checkpoints / "second" / "stop").touch()
    until(lambda: process.poll() is not None)
    assert (checkpoints / "second" / "was-stopped").exists()
    assert queue.waiting() == []


def test_as_many_runs_train_at_once_as_there_are_slots(checkpoints, waiter, monkeypatch):
    monkeypatch.setenv("LEUKODASH_CPU_SLOTS", "2")
    for name in ("first", "second", "third"):
        waiter(name)
    until(lambda: len(turns(checkpoints)) == 2)
    assert queue.waiting() == ["third"]
    let_go(checkpoints, "second")
    until(lambda: turns(checkpoints) == ["first", "second", "third"])


@pytest.mark.parametrize(
    ("visible", "expected"), [("0,1", ["gpu-0", "gpu-1"]), ("3", ["gpu-3"]), ("-1", ["cpu-0"]), ("", ["cpu-0"])]
)
def test_devices_are_the_visible_gpus_or_else_the_cpu(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert queue.devices() == expected


AUTOGROUP = "from pathlib import Path; weight = Path('/proc/self/autogroup'); "
TELL = "import os; print(os.nice(0), *weight.read_text().split()[-1:] if weight.exists() else [])"


def said(code, *, own):
    """What Python says that runs this code in a session of its own, or in this one."""
    command = [sys.executable, "-c", AUTOGROUP + code + TELL]
    return subprocess.run(command, start_new_session=own, capture_output=True, text=True, check=True).stdout.split()


def test_a_run_steps_back_behind_the_pages_and_never_takes_somebodys_terminal_with_it():
    before = said("", own=False)
    mine, sessions = (
        said("from leukodash.jobs.queue import lower_priority; lower_priority(); ", own=own) for own in (False, True)
    )
    assert int(mine[0]) == int(sessions[0]) == min(int(before[0]) + settings.NICE, 19)
    assert mine[1:] == said("", own=False)[1:] == before[1:]


def test_a_run_steps_back_with_its_whole_session():
    number = str(settings.NICE)
    try:
        able = said(f"weight.write_text('{number}'); ", own=True)[1:] == [number]
    except subprocess.CalledProcessError:
        able = False
    if not able:
        pytest.skip("This system does not weigh sessions, or does not let them be weighed.")
    assert said("from leukodash.jobs.queue import lower_priority; lower_priority(); ", own=True)[1:] == [number]


def test_a_session_is_weighed_again_where_linux_had_too_many_such_wishes_at_once(monkeypatch):
    wishes = []

    def write_text(path, text):
        wishes.append((str(path), text))
        if len(wishes) < 3:
            raise BlockingIOError

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(queue.os, "nice", lambda _: 0)
    monkeypatch.setattr(queue.os, "getsid", lambda _: queue.os.getpid())
    monkeypatch.setattr(queue.time, "sleep", lambda _: None)
    queue.lower_priority()
    assert wishes == [("/proc/self/autogroup", str(settings.NICE))] * 3


def test_a_run_waits_for_one_that_was_requested_earlier_and_is_starting(checkpoints):
    mine, other = checkpoints / "mine", checkpoints / "other"
    other.mkdir()
    status = other / "status.json"
    for starting, asked, waits in ((True, 1, True), (True, 3, False), (False, 1, False)):
        status.write_text(json.dumps({"starting": starting, "asked": asked}))
        assert queue._earlier_run_starting(mine, 2) is waits
    status.write_text(json.dumps({"starting": True, "asked": 1}))
    for age in (queue.STARTING_SECONDS + 1, -3600):  # its process died, and the clock was ahead
        os.utime(other, (time.time() - age,) * 2)
        assert not queue._earlier_run_starting(mine, 2)
