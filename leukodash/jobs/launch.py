"""Start, stop and resume runs. Each run is a process in a session of its own, which waits for its turn by itself.

Reruns of a page, closed tabs and a restarted server do not affect it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from leukodash import settings
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import load_dataset
from leukodash.errors import LeukoDashError, NotAllowedError, RunError
from leukodash.jobs.estimate import estimate, memory_problem, time_refusal
from leukodash.jobs.sweep import Planned
from leukodash.log import record
from leukodash.runs.access import ANYONE, Actor, require, require_room, require_settings, surplus, turn
from leukodash.runs.run_folder import LIVE, Run, create_run, list_runs, readable, writing_runs
from leukodash.runs.trash import discard_for_good

_PATHS = ("LEUKODASH_DATA", "LEUKODASH_CHECKPOINTS", "LEUKODASH_PUBLISHED", "LEUKODASH_WEIGHTS", "LEUKODASH_CACHE")
_children: list[subprocess.Popen] = []  # kept so that ended processes are collected and none becomes a zombie


def start(config: RunConfig, actor: Actor = ANYONE, *, title: str = "", owner: str = "", notes: str = "") -> Run:
    """Create a run and launch its process; returns at once. Raises as `start_together` does."""
    return start_together([Planned(config, title)], actor, owner=owner, notes=notes)[0]


def start_together(planned: Sequence[Planned], actor: Actor = ANYONE, *, owner: str = "", notes: str = "") -> list[Run]:
    """Create runs and launch their processes, all of them or none; returns at once.

    Raises:
        NotAllowedError: the actor may not train, or not with these settings, so long, or so many runs at once.
        RunError: a folder cannot be created.
    """
    require(actor, "train")
    for plan in planned:
        require_settings(actor, plan.config)
    if actor.role == "visitor":
        _require_small([plan.config for plan in planned], actor)
    runs: list[Run] = []
    with all_or_none(runs):
        with _one_start_at_a_time():
            require_room(actor, len(planned))
            for run in surplus(actor):
                discard_for_good(run)
            texts = {"owner": actor.name or owner, "notes": notes, "by": actor.id}
            runs.extend(create_run(plan.config, title=plan.title, turn=turn(actor), **texts) for plan in planned)
        for run in runs:
            launch(run)
            record("start", actor, run=run.id)
    return runs


def resume(run: Run, actor: Actor = ANYONE) -> Run:
    """Launch the process of a stopped, failed or lost run again; it continues from its last checkpoint.

    Raises NotAllowedError if the actor may not, and RunError for a run that is queued, running or finished.
    """
    require(actor, "resume", run)
    require_room(actor)
    if run.state in LIVE:
        raise RunError(f"{run.title} is still queued or running. Wait for it, or stop it first.")
    if run.metrics:
        raise RunError(
            f"{run.title} has finished, so there is nothing to resume. Start a new run with changes instead."
        )
    now = {"asked": time.time_ns(), "turn": turn(actor), "updated": time.time()}
    blank = dict.fromkeys(("stage", "message", "error", "traceback"), "")
    again = {"state": "queued", "starting": True, "progress": 0.0, **blank, **now}
    run.write("status.json", run.status | again)
    launch(run)
    record("resume", actor, run=run.id)
    return run


def stop(run: Run, actor: Actor = ANYONE) -> None:
    """Request a run to stop after its current step; its checkpoint is kept.

    Raises NotAllowedError if the actor may not, and RunError if the run is not running.
    """
    require(actor, "stop", run)
    if run.state not in LIVE:
        raise RunError(f"{run.title} is not running, so there is nothing to stop.")
    with writing_runs():
        (run.path / "stop").touch()
    record("stop", actor, run=run.id)


def launch(run: Run) -> None:
    """Spawn ``python -m leukodash.training RUN`` with its output in log.txt. Raises RunError if that cannot be."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    environment |= {
        name: str(Path(environment[name]).expanduser().resolve()) for name in _PATHS if environment.get(name)
    }
    with writing_runs():
        (run.path / "stop").unlink(missing_ok=True)
        log = (run.path / "log.txt").open("ab")
    with log:
        command = [sys.executable, "-m", "leukodash.training", str(run.path.resolve())]
        root = Path(__file__).resolve().parents[2]
        try:
            process = subprocess.Popen(
                command,
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(
                f"The process of a run cannot be started ({error.strerror}). End other programs, then try again."
            ) from error
    _children.append(process)
    _children[:] = [child for child in _children if child.poll() is None]


def _require_small(configs: list[RunConfig], actor: Actor) -> None:
    """Raise NotAllowedError for runs that take too long or too much memory by the estimate."""
    runs = readable(list_runs())[0]
    estimates = [estimate(config, load_dataset(config.data), runs) for config in configs]
    if words := time_refusal(actor, estimates) or memory_problem(estimates):
        raise NotAllowedError(words)


@contextlib.contextmanager
def all_or_none(runs: list[Run]) -> Iterator[None]:
    """Remove these runs if the block fails; those of them that have a process end when their folder is gone."""
    try:
        yield
    except LeukoDashError:
        for run in runs:
            shutil.rmtree(run.path, ignore_errors=True)
        raise


@contextlib.contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """Keep two clicks at once from passing a limit that has room for one."""
    with writing_runs():
        queue = settings.checkpoints() / ".queue"
        queue.mkdir(parents=True, exist_ok=True)
        lock = FileLock(queue / "starting.lock").acquire()
    with lock:
        yield
