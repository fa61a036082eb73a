"""The learning-rate finder for pages and command line: start it, read its curve, and get its suggestion.

It is a short training with exponentially rising rates (Smith 2017, *Cyclical Learning Rates for Training Neural
Networks*, section 3.3), in a process that waits in the queue like a run. Its folder has a hidden name, so no list of
runs shows it.
"""

import os
import shutil
import time

import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.bounded_read import DamagedError
from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.jobs import launch as jobs
from leukodash.log import record
from leukodash.runs.access import ANYONE, Actor, require, turn
from leukodash.runs.run_files import Table, read_table
from leukodash.runs.run_folder import LIVE, Run, create_run

PREFIX = ".rates-"
COLUMNS = ("rate", "loss", "smooth")
RATES = Table(COLUMNS, grows=True)
KEPT_SECONDS = 24 * 3600


def start_finder(config: RunConfig, actor: Actor = ANYONE) -> Run:
    """Launch a finder for these settings; returns at once.

    Raises NotAllowedError if the actor may not, and RunError if its folder cannot be created or there is no rate.
    """
    require(actor, "search rates")
    if config.solved:
        raise RunError("A head that is solved has no learning rate. Choose another optimizer than lbfgs.")
    _sweep()
    title = f"Learning rates of {config.spec.title}"
    run = create_run(config, title=title, by=actor.id, turn=turn(actor), prefix=PREFIX)
    with jobs.all_or_none([run]):
        jobs.launch(run)
    record("search rates", actor, run=run.id)
    return run


def curve(run: Run) -> pd.DataFrame:
    """Return the rates tried so far: columns rate, loss, smooth (a running mean); may be empty."""
    try:
        return read_table(run.path / "rates.csv", RATES)
    except DamagedError:
        return pd.DataFrame(columns=list(COLUMNS))


def suggestion(curve: pd.DataFrame) -> float | None:
    """Return the rate at which the smoothed loss falls fastest, rounded to one digit; None if it never falls.

    The slope is taken over the logarithm of the rate, up to the lowest smoothed loss; beyond it training diverges.
    """
    lowest = int(curve["smooth"].argmin()) if len(curve) else 0
    if lowest < 4:
        return None
    slope = np.gradient(curve["smooth"].to_numpy()[: lowest + 1], np.log(curve["rate"].to_numpy()[: lowest + 1]))
    steepest = curve["rate"].iloc[int(slope.argmin())]
    return float(f"{steepest:.0e}") if slope.min() < 0 else None


def _sweep() -> None:
    """Remove finders older than a day."""
    root = settings.checkpoints()
    for entry in os.scandir(root) if root.is_dir() else ():
        if entry.name.startswith(PREFIX) and time.time() - entry.stat().st_mtime > KEPT_SECONDS:
            run = Run(root / entry.name)
            if run.state not in LIVE:
                shutil.rmtree(run.path, ignore_errors=True)
