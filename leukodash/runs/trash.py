"""Deleted runs, kept for a day so that a deletion can be undone.

Deleting and restoring are one rename each, so that a kill leaves a run here or there, and of two people who do it at
once, one does. Final removal begins with a rename too: what a kill leaves of a run cannot be restored, and goes next.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

from leukodash import settings
from leukodash.atomic_write import is_full, move
from leukodash.errors import RunError
from leukodash.log import record
from leukodash.runs.access import ANYONE, OPERATOR, Actor, require
from leukodash.runs.run_folder import Run

KEPT_SECONDS = 24 * 3600
GOING = ".going-"  # prefix of what is being removed
_CLOCK = time.time() - time.monotonic()  # by which the time of day is known even if somebody sets the clock


def discard(run: Run, actor: Actor = ANYONE) -> Run:
    """Move a run's folder into the trash; returns the run at its new place.

    Raises NotAllowedError if the actor may not, and RunError while the run is running.
    """
    require(actor, "delete", run)
    if run.alive():
        raise RunError(f"{run.title} is still running. Stop it before deleting it.")
    place = settings.checkpoints() / ".trash" / run.id
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.utime(run.path)  # `purge` counts from now
        move(run.path, place)
    except FileNotFoundError as error:
        raise RunError(f"{run.id} is no longer there. Somebody else has deleted or moved it.") from error
    except OSError as error:
        advice = "Free some space" if is_full(error) else "Check the permissions of its folder"
        raise RunError(f"{run.id} could not be deleted ({error.strerror}). {advice}.") from error
    record("delete", actor, run=run.id)
    return Run(place)


def discard_for_good(run: Run) -> None:
    """Delete a run that nobody may want back: one beyond the limits of a public demo."""
    purge([discard(run, OPERATOR).id])


def bring_back(name: str, actor: Actor = ANYONE) -> Run:
    """Move a run out of the trash. Raises NotAllowedError if the actor may not, RunError if it is not there."""
    place = settings.checkpoints() / Path(name).name
    require(actor, "restore", Run(settings.checkpoints() / ".trash" / place.name))
    try:
        move(settings.checkpoints() / ".trash" / place.name, place)
    except FileNotFoundError as error:
        raise RunError(f"'{name}' is no longer in the trash, so it cannot be restored.") from error
    except OSError as error:
        raise RunError(f"'{name}' could not be restored ({error.strerror}). Check the permissions.") from error
    record("restore", actor, run=place.name)
    return Run(place)


def purge(names: list[str] | None = None) -> None:
    """Remove runs permanently: those with these ids, or by default all that have been in the trash for a day."""
    trash = settings.checkpoints() / ".trash"
    now = min(time.time(), _CLOCK + time.monotonic())
    for path in list(trash.iterdir()) if trash.is_dir() else ():
        with contextlib.suppress(OSError):  # another process removes it, or it cannot be removed
            due = now - path.stat().st_mtime > KEPT_SECONDS if names is None else path.name in names
            if due and not path.name.startswith(GOING):
                path = path.replace(trash / f"{GOING}{path.name}")
            if path.name.startswith(GOING):
                shutil.rmtree(path, ignore_errors=True)
