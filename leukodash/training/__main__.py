"""``python -m leukodash.training RUN``: the process of one run. It waits for a device, trains, and records the end.

The deep-learning libraries are imported when the run starts, so a waiting process takes only a few megabytes.
"""

import contextlib
import errno
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from threading import Event, Thread

from filelock import Timeout

from leukodash.atomic_write import is_full
from leukodash.errors import LeukoDashError
from leukodash.jobs.queue import POLL_SECONDS, lower_priority, wait_for_device
from leukodash.runs.locks import Stopped, run_lock, stop_requested
from leukodash.runs.status import Status

RATES = ".rates-"  # prefix of the folders of learning-rate finders


def main(folder: Path) -> int:
    """Run the training of a run folder; returns the exit status."""
    if not folder.is_dir():  # deleted while this process was starting
        return 2
    try:
        lock = run_lock(folder).acquire(timeout=5)
    except Timeout:
        print(f"{folder.name} is already running in another process.")
        return 2
    over = Event()
    with lock:
        status = Status(folder)
        asked = status.fields.pop("asked", None)
        # Written with the first progress: until the run holds its ticket it is "starting", and others wait for it.
        blank = dict.fromkeys(("stage", "message", "error", "traceback"), "")
        status.fields |= {"state": "queued", "pid": os.getpid(), "seconds_left": None, **blank}
        signal.signal(signal.SIGTERM, lambda *_: (folder / "stop").touch())
        Thread(target=_watch, args=(folder, status, over), daemon=True).start()
        try:
            with wait_for_device(
                folder,
                lambda ahead: status.progress(0.0, _line(ahead), ahead=ahead),
                asked,
                status.fields.get("turn", 0),
            ) as device:
                _use(device)
                status.set(state="running", stage="preparing", started=time.time(), ahead=0, device=_title(device))
                check_run(folder)
                if folder.name.startswith(RATES):
                    from leukodash.training.lr_finder import find_rates as work
                else:
                    from leukodash.training.fit import train as work

                work(folder, device, status)
        except Stopped:
            _stopped(folder, status)
        except LeukoDashError as error:
            _failed(status, str(error))
            return 2
        except Exception as error:  # noqa: BLE001  (the page must be able to show any error)
            if words := _disk_words(error):
                _failed(status, words)
            else:
                words = f"The training ended with an unexpected error: {type(error).__name__}: {error}"
                _failed(status, words[:500], traceback.format_exc())
            return 1
        else:
            status.set(state="finished", progress=1.0, message="", seconds_left=None, ended=time.time())
        finally:
            over.set()
    return 0


def _watch(folder: Path, status: Status, over: Event) -> None:
    """Leave when the run's folder is gone: nobody could see or stop this run, and others wait for its device.

    Leave as well when asked to stop while the libraries are imported, which takes seconds. Nothing is lost: before the
    features, a run has computed nothing of its own.
    """
    while not over.wait(POLL_SECONDS):
        try:
            (folder / "lock").stat()
        except FileNotFoundError:
            os._exit(2)
        except OSError:
            continue  # a network disk that does not answer right now
        if (status.fields["state"], status.fields["stage"]) == ("running", "preparing") and stop_requested(folder):
            _stopped(folder, status)
            os._exit(0)


def _failed(status: Status, words: str, details: str = "") -> None:
    status.set(state="failed", error=words, traceback=details, seconds_left=None)
    with contextlib.suppress(OSError):  # a full disk has no room for the log either
        print(details or words, flush=True)


def _disk_words(error: Exception) -> str:
    """Say what to do about a disk that is full or cannot be written; "" for any other error."""
    then = "then resume this run: it continues from its last checkpoint"
    if is_full(error):
        return f"The disk is full. Free some space, {then}."
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"'{Path(error.filename or '').name}' cannot be written ({error.strerror}). Change that, {then}."
    return ""


def check_run(folder: Path) -> None:
    """Raise NotAllowedError if the person who started this run may not train with its settings."""
    from leukodash import settings
    from leukodash.runs.access import Actor, require_settings
    from leukodash.runs.run_folder import Run

    run = Run(folder)
    if settings.public() and run.by:
        require_settings(Actor(run.by, role="visitor"), run.config)


def _stopped(folder: Path, status: Status) -> None:
    print("Stopped as requested. Resuming continues from here.", flush=True)
    (folder / "stop").unlink(missing_ok=True)
    status.set(state="stopped", message="", seconds_left=None)


def _line(ahead: int) -> str:
    return "next in line" if ahead == 0 else f"{ahead} ahead in line"


def _use(device: str) -> None:
    """Restrict the deep-learning libraries, which are imported later, to this device."""
    kind, _, number = device.partition("-")
    os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "gpu" else "-1"
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    if kind == "cpu":  # run branches one after another, each on all cores: as fast, with 250 MB less memory
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def _title(device: str) -> str:
    kind, _, number = device.partition("-")
    return f"GPU {number}" if kind == "gpu" else f"CPU ({os.cpu_count()} cores)"


if __name__ == "__main__":
    lower_priority()
    sys.exit(main(Path(sys.argv[1])))
