"""The queue of runs. It has no scheduler that could die, and imports little: thirty processes may wait at once.

Every run's process waits by itself. It puts a ticket, named by the time of the request, into a folder and holds the
ticket's lock. A ticket whose lock is free belongs to a dead process and is removed. The process with the first ticket
takes the first device whose lock is free.
"""

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from leukodash import settings
from leukodash.bounded_read import DamagedError, read_bounded
from leukodash.runs.locks import STARTING_SECONDS, Stopped, is_held, stop_requested

POLL_SECONDS = 0.3
MOST_STATUS = 4_000_000  # bytes


def devices() -> list[str]:
    """Return the names of the devices: ``gpu-0`` … for visible GPUs, or else ``cpu-0`` … for CPU slots."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = [number.strip() for number in visible.split(",") if number.strip() not in ("", "-1")]
    else:
        gpus = [str(number) for number in range(nvidia_gpus())]
    return [f"gpu-{number}" for number in gpus] or [f"cpu-{number}" for number in range(settings.cpu_slots())]


def nvidia_gpus() -> int:
    """Return the number of NVIDIA GPUs that the driver knows."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.splitlines())


def waiting() -> list[str]:
    """Return the ids of the runs in the queue, in order."""
    return [name.partition("_")[2] for name in _tickets(settings.checkpoints() / ".queue")]


def lower_priority() -> None:
    """Lower the priority of this process, so that pages respond first.

    Linux distributes processor time among sessions before it considers the processes in them, and every run is a
    session of its own. The session's priority is lowered as well; otherwise thirty waiting runs would slow the pages
    down (``man 7 sched``).
    """
    with contextlib.suppress(OSError, AttributeError):  # not supported everywhere
        os.nice(settings.NICE)
        for _ in range(20 if os.getsid(0) == os.getpid() else 0):  # not the session of a terminal
            try:
                Path("/proc/self/autogroup").write_text(str(settings.NICE))
                break
            except BlockingIOError:  # Linux allows ten changes a second, all users together
                time.sleep(random.uniform(0.05, 0.5))


@contextlib.contextmanager
def wait_for_device(
    folder: Path, on_wait: Callable[[int], None] | None = None, asked: int | None = None, turn: int = 0
) -> Iterator[str]:
    """Wait for the turn of the run in `folder`, and hold a device while the block runs; yields the device's name.

    `on_wait` is called several times a second with the number of runs ahead. The order is that of the rounds (`turn`,
    see `runs.access.turn`), and within a round that of the requests (`asked`: Unix time in ns, by default now), since
    thirty processes that are spawned at once start in any order.
    Raises Stopped when the run is requested to stop.
    """
    queue = folder.parent / ".queue"
    queue.mkdir(parents=True, exist_ok=True)
    names = devices()
    ticket = queue / f"{turn:06d}-{asked or time.time_ns():020d}_{folder.name}"
    held = None
    with FileLock(ticket, thread_local=False):
        try:
            while held is None:
                if stop_requested(folder):
                    raise Stopped
                ahead = _ahead(queue, ticket)
                held = (
                    _free_device(queue, names)
                    if ahead == 0 and not _earlier_run_starting(folder, asked, turn)
                    else None
                )
                if held is None:
                    if on_wait:
                        on_wait(ahead)
                    time.sleep(POLL_SECONDS)
        finally:
            ticket.unlink(missing_ok=True)
    name, lock = held
    with lock:
        yield name


def _tickets(queue: Path) -> list[str]:
    return sorted(name for name in os.listdir(queue) if "_" in name) if queue.is_dir() else []


def _ahead(queue: Path, ticket: Path) -> int:
    """Return the number of tickets before this one; removes those of dead processes from the front."""
    before = [name for name in _tickets(queue) if name < ticket.name]
    for position, name in enumerate(before):
        if is_held(queue / name):
            return len(before) - position
        (queue / name).unlink(missing_ok=True)
    return 0


def _earlier_run_starting(folder: Path, asked: int | None, turn: int = 0) -> bool:
    """Whether a run that comes before this one is about to join the queue: its process has just been spawned."""
    now = time.time()
    for entry in os.scandir(folder.parent) if asked else ():
        try:
            if abs(now - entry.stat().st_mtime) > STARTING_SECONDS:
                continue  # writing a status touches the folder; most runs are older and need not be read at each poll
            fields = json.loads(read_bounded(Path(entry, "status.json"), MOST_STATUS))
            earlier = fields.get("starting") and (fields.get("turn", 0), fields.get("asked", asked)) < (turn, asked)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, DamagedError):
            continue  # it is no run, or a damaged one
        if earlier:
            return True
    return False


def _free_device(queue: Path, names: list[str]) -> tuple[str, FileLock] | None:
    for name in names:
        lock = FileLock(queue / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        return name, lock
    return None
