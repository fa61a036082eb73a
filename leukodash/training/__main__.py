"""``python -m leukodash.training RUN``: the process of one run. It waits for its turn, trains, and says how it ended.

Imports little until it is the run's turn: waiting costs a few megabytes.
"""

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from threading import Thread

from filelock import Timeout

from leukodash.errors import LeukoDashError
from leukodash.jobs.queue import POLL_SECONDS, lower_priority, wait_for_device
from leukodash.runs.locks import Stopped, run_lock, stop_requested
from leukodash.runs.status import Status

RATES = ".rates-"  # what folders of learning-rate finders begin with


def main(folder: Path) -> int:
    """Run the training of a run folder; returns the exit status."""
    try:
        lock = run_lock(folder).acquire(timeout=5)
    except Timeout:
        print(f"{folder.name} is already under way in another process.")
        return 2
    with lock:
        status = Status(folder)
        asked = status.fields.pop("asked", None)
        # Written with the first word from the line: until it holds its ticket it is "starting", which others heed.
        blank = dict.fromkeys(("stage", "message", "error", "traceback"), "")
        status.fields |= {"state": "queued", "pid": os.getpid(), "seconds_left": None, **blank}
        signal.signal(signal.SIGTERM, lambda *_: (folder / "stop").touch())
        try:
            with wait_for_device(
                folder, lambda ahead: status.progress(0.0, _line(ahead), ahead=ahead), asked
            ) as device:
                _use(device)
                status.set(state="running", stage="preparing", started=time.time(), ahead=0, device=_title(device))
                Thread(target=_leave_when_asked, args=(folder, status), daemon=True).start()
                if folder.name.startswith(RATES):
                    from leukodash.training.lr_finder import find_rates as work
                else:
                    from leukodash.training.fit import train as work

                work(folder, device, status)
        except Stopped:
            _stopped(folder, status)
        except LeukoDashError as error:
            print(error)
            status.set(state="failed", error=str(error), seconds_left=None)
            return 2
        except Exception as error:  # noqa: BLE001  (whatever it was, the page must be able to show it)
            traceback.print_exc()
            words = f"The training ended with an error that LeukoDash did not expect: {type(error).__name__}: {error}"
            status.set(state="failed", error=words[:500], traceback=traceback.format_exc(), seconds_left=None)
            return 1
        else:
            status.set(state="finished", progress=1.0, message="", seconds_left=None, ended=time.time())
    return 0


def _leave_when_asked(folder: Path, status: Status) -> None:
    """Look for a request to stop while the libraries are imported, which takes seconds in which nobody else looks.

    Nothing is lost: until the features are begun, a run has computed nothing of its own.
    """
    while (status.fields["state"], status.fields["stage"]) == ("running", "preparing"):
        if stop_requested(folder):
            _stopped(folder, status)
            os._exit(0)
        time.sleep(POLL_SECONDS)


def _stopped(folder: Path, status: Status) -> None:
    print("Stopped, as asked. Resume goes on from here.", flush=True)
    (folder / "stop").unlink(missing_ok=True)
    status.set(state="stopped", message="", seconds_left=None)


def _line(ahead: int) -> str:
    return "next in line" if ahead == 0 else f"{ahead} ahead in line"


def _use(device: str) -> None:
    """Point the deep-learning libraries, not yet imported, at this device alone."""
    kind, _, number = device.partition("-")
    os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "gpu" else "-1"
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    if kind == "cpu":  # branches one after the other, each on all cores: as fast, in a quarter of a gigabyte less
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def _title(device: str) -> str:
    kind, _, number = device.partition("-")
    return f"GPU {number}" if kind == "gpu" else f"CPU ({os.cpu_count()} cores)"


if __name__ == "__main__":
    lower_priority()
    sys.exit(main(Path(sys.argv[1])))
