"""Start, stop and resume runs. Each is a process of its own, in a session of its own, that waits for its turn itself.

Reruns of a page, closed tabs and a restarted server do not touch it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.runs.run_folder import LIVE, Run, create_run

_PATHS = ("LEUKODASH_DATA", "LEUKODASH_CHECKPOINTS", "LEUKODASH_PUBLISHED", "LEUKODASH_WEIGHTS", "LEUKODASH_CACHE")
_children: list[subprocess.Popen] = []  # kept so that ended ones can be collected and none stays a zombie


def start(config: RunConfig, *, title: str = "", owner: str = "", notes: str = "") -> Run:
    """Create a run and launch its process; returns at once. Raises RunError where no folder can be made."""
    run = create_run(config, title=title, owner=owner, notes=notes)
    launch(run)
    return run


def resume(run: Run) -> Run:
    """Launch the process of a stopped, failed or lost run again; it goes on from its last checkpoint.

    Raises RunError for a run that is alive or has finished.
    """
    run.refuse_published("resumed")
    if run.state in LIVE:
        raise RunError(f"{run.title} is already under way. Wait for it, or stop it first.")
    if run.metrics:
        raise RunError(
            f"{run.title} has finished, so there is nothing to resume. Start a new run with changes instead."
        )
    now = {"asked": time.time_ns(), "updated": time.time()}
    blank = dict.fromkeys(("stage", "message", "error", "traceback"), "")
    again = {"state": "queued", "starting": True, "progress": 0.0, **blank, **now}
    run.write("status.json", run.status | again)
    launch(run)
    return run


def stop(run: Run) -> None:
    """Ask a run to stop; it finishes its step and keeps what was reached. Raises RunError where nothing runs."""
    if run.state not in LIVE:
        raise RunError(f"{run.title} is not running, so there is nothing to stop.")
    (run.path / "stop").touch()


def launch(run: Run) -> None:
    """Spawn ``python -m leukodash.training RUN``, its output going to log.txt."""
    (run.path / "stop").unlink(missing_ok=True)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    environment |= {
        name: str(Path(environment[name]).expanduser().resolve()) for name in _PATHS if environment.get(name)
    }
    with (run.path / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "leukodash.training", str(run.path.resolve())],
            cwd=Path(__file__).resolve().parents[2],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(process)
    _children[:] = [child for child in _children if child.poll() is None]
