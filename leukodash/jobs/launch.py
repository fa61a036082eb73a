"""Start, stop and resume runs. Each run is a process in a session of its own, which waits for its turn by itself.

Reruns of a page, closed tabs and a restarted server do not affect it.
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
_children: list[subprocess.Popen] = []  # kept so that ended processes are collected and none becomes a zombie


def start(config: RunConfig, *, title: str = "", owner: str = "", notes: str = "") -> Run:
    """Create a run and launch its process; returns at once. Raises RunError if its folder cannot be created."""
    run = create_run(config, title=title, owner=owner, notes=notes)
    launch(run)
    return run


def resume(run: Run) -> Run:
    """Launch the process of a stopped, failed or lost run again; it continues from its last checkpoint.

    Raises RunError for a run that is queued, running or finished.
    """
    run.refuse_published("resumed")
    if run.state in LIVE:
        raise RunError(f"{run.title} is still queued or running. Wait for it, or stop it first.")
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
    """Request a run to stop after its current step; its checkpoint is kept. Raises RunError if it is not running."""
    if run.state not in LIVE:
        raise RunError(f"{run.title} is not running, so there is nothing to stop.")
    (run.path / "stop").touch()


def launch(run: Run) -> None:
    """Spawn ``python -m leukodash.training RUN`` with its output in log.txt."""
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
