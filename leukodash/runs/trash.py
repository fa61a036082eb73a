"""Deleted runs, kept for a day so that a deletion can be undone."""

import os
import shutil
import time
from pathlib import Path

from leukodash import settings
from leukodash.errors import RunError
from leukodash.log import record
from leukodash.runs.access import ANYONE, OPERATOR, Actor, require
from leukodash.runs.run_folder import Run

KEPT_SECONDS = 24 * 3600


def discard(run: Run, actor: Actor = ANYONE) -> Run:
    """Move a run's folder into the trash; returns the run at its new place.

    Raises NotAllowedError if the actor may not, and RunError while the run is running.
    """
    require(actor, "delete", run)
    if run.alive():
        raise RunError(f"{run.title} is still running. Stop it before deleting it.")
    place = settings.checkpoints() / ".trash" / run.id
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        run.path.replace(place)
    except OSError as error:
        raise RunError(
            f"{run.title} could not be deleted ({error.strerror}). Check the permissions of its folder."
        ) from error
    os.utime(place)  # `purge` counts from now
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
        (settings.checkpoints() / ".trash" / place.name).replace(place)
    except OSError as error:
        raise RunError(f"'{name}' is no longer in the trash, so it cannot be restored.") from error
    record("restore", actor, run=place.name)
    return Run(place)


def purge(names: list[str] | None = None) -> None:
    """Remove runs permanently: those with these ids, or by default all that have been in the trash for a day."""
    trash = settings.checkpoints() / ".trash"
    places = [entry for entry in os.scandir(trash) if entry.is_dir()] if trash.is_dir() else []
    for entry in places:
        due = time.time() - entry.stat().st_mtime > KEPT_SECONDS if names is None else entry.name in names
        if due:
            shutil.rmtree(entry.path, ignore_errors=True)
