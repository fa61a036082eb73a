"""The queue: one after the other, in order, and the dead block nobody. Real processes, light ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from waiting import until

from leukodash import settings
from leukodash.jobs import queue

WAITER = """
import sys, time
from pathlib import Path
from leukodash.jobs.queue import wait_for_device
from leukodash.runs.locks import Stopped
folder = Path(sys.argv[1])
try:
    with wait_for_device(folder, lambda ahead: (folder / f"{ahead}-ahead").touch()) as device:
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


def test_a_killed_waiter_blocks_nobody_and_a_killed_holder_frees_its_device(checkpoints, waiter):
    _, doomed, holder, _ = (waiter(name) for name in ("first", "second", "third", "fourth"))
    until((checkpoints / "fourth" / "2-ahead").exists)
    doomed.kill()
    doomed.wait()
    until((checkpoints / "fourth" / "1-ahead").exists)
    let_go(checkpoints, "first")
    until(lambda: turns(checkpoints) == ["first", "third"])
    assert queue.waiting() == ["fourth"]  # the ticket of the dead is gone
    holder.kill()
    until(lambda: turns(checkpoints) == ["first", "third", "fourth"])


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


@pytest.mark.skipif(os.name != "posix", reason="the program is a shell script")
@pytest.mark.parametrize(("status", "expected"), [(0, ["gpu-0", "gpu-1"]), (9, ["cpu-0"])])
def test_nvidias_own_program_counts_the_gpus_and_one_that_fails_counts_none(status, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: H100\n  MIG 1g\nGPU 1: H100"; exit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert queue.devices() == expected


def test_waiting_runs_are_named_whatever_is_in_their_names(checkpoints):
    (checkpoints / ".queue").mkdir()
    for name in ("2_b_c", "1_a", "cpu-0.lock"):
        (checkpoints / ".queue" / name).touch()
    assert queue.waiting() == ["a", "b_c"]


@pytest.mark.parametrize(
    ("other", "age", "goes_first"),
    [
        ({"starting": True, "asked": 50}, 0, True),
        ({"starting": True, "asked": 150}, 0, False),
        ({"starting": False, "asked": 50}, 0, False),
        ({"starting": True}, 0, False),
        ({"starting": True, "asked": 50}, 60, False),  # its process never came up
        ({"starting": True, "asked": 50}, -3600, False),  # the clock was ahead
    ],
)
def test_only_a_run_that_was_requested_earlier_and_is_starting_goes_first(checkpoints, other, age, goes_first):
    def write(name, fields):
        (checkpoints / name).mkdir()
        (checkpoints / name / "status.json").write_text(json.dumps({"updated": time.time() - age, **fields}))
        os.utime(checkpoints / name, (time.time() - age,) * 2)

    write("mine", {"starting": True, "asked": 100})
    (checkpoints / "broken").mkdir()
    (checkpoints / "broken" / "status.json").write_text("{")
    write("other", other)
    assert queue._earlier_run_starting(checkpoints / "mine", 100, 0) is goes_first
    assert not queue._earlier_run_starting(checkpoints / "mine", None, 0)


AUTOGROUP = "from pathlib import Path; weight = Path('/proc/self/autogroup'); "
STEP_BACK = "from leukodash.jobs.queue import lower_priority; lower_priority(); "
TELL = "import os; print(os.nice(0), *weight.read_text().split()[-1:] if weight.exists() else [])"


def said(code, *, own):
    """What Python says that runs this code in a session of its own, or in this one."""
    command = [sys.executable, "-c", AUTOGROUP + code + TELL]
    return subprocess.run(command, start_new_session=own, capture_output=True, text=True, check=True).stdout.split()


def test_a_run_steps_back_behind_the_pages_and_never_takes_somebodys_terminal_with_it():
    before = said("", own=False)
    mine, sessions = (said(STEP_BACK, own=own) for own in (False, True))
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
    assert said(STEP_BACK, own=True)[1:] == [number]


def test_a_session_is_weighed_again_while_linux_has_too_many_such_requests_and_then_left_alone(monkeypatch):
    requests, pauses = [], []

    def write_text(path, text):
        requests.append((str(path), text))
        if len(requests) != 3:
            raise BlockingIOError

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(queue.os, "nice", lambda _: 0)
    monkeypatch.setattr(queue.os, "getsid", lambda _: queue.os.getpid())
    monkeypatch.setattr(queue.time, "sleep", pauses.append)
    queue.lower_priority()
    assert requests == [("/proc/self/autogroup", str(settings.NICE))] * 3
    assert len(pauses) == 2 and all(0.05 <= pause <= 0.5 for pause in pauses)
    queue.lower_priority()
    assert len(requests) == 3 + 20
    monkeypatch.setattr(queue.os, "nice", Mock(side_effect=PermissionError))
    queue.lower_priority()  # a system that forbids it keeps no run from training
