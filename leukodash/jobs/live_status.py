"""Descriptions of queued and running runs: their stage, their place in the queue, and whose curves are shown."""

import heapq
import time
from collections.abc import Callable

import pandas as pd

from leukodash.config.run_config import RunConfig
from leukodash.jobs.estimate import duration_words
from leukodash.jobs.queue import waiting
from leukodash.runs.run_files import STRENGTH
from leukodash.runs.run_folder import LIVE, Run, file_stamp

CURVES = 6  # with more lines than this, a chart cannot be read
BATCH_SECONDS = 120  # runs requested this close to the newest one count as started together

STAGE_WORDS = {
    "": "starting",
    "preparing": "getting ready",
    "features": "computing features of the frozen layers",
    "training": "training",
    "evaluating": "testing",
}


def live_runs(runs: list[Run]) -> list[Run]:
    """Return the running runs, then the queued ones."""
    states = {run: run.state for run in runs}
    return [run for state in reversed(LIVE) for run in reversed(runs) if states[run] == state]


def stage_words(status: dict) -> str:
    """Return what a run is doing and how far it is: "training · epoch 3 of 20"."""
    if status["state"] == "queued":
        return "starting" if status.get("starting") else queue_words(status.get("ahead", 0))
    message = status["message"]
    if status["stage"] == "preparing" and not message:
        message = "loading TensorFlow"
    return " · ".join(part for part in (STAGE_WORDS.get(status["stage"], status["stage"]), message) if part)


def queue_words(ahead: int) -> str:
    """Return "next in line", "2nd in line" and so on."""
    if ahead == 0:
        return "next in line"
    place = ahead + 1
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending} in line"


def left_words(status: dict) -> str:
    """Return the time that the stage still takes, or an empty string if it is not known yet."""
    left = status.get("seconds_left")
    if status["state"] != "running" or left is None or status["progress"] <= 0:
        return ""
    return f"about {duration_words(left)} left"


def curve_runs(runs: list[Run], live: list[Run]) -> list[Run]:
    """Return the runs whose curves are shown: the live runs and those started together with them, or else the newest.

    Args:
        runs: all runs, newest first.
        live: the queued and running ones.
    """
    if not runs:
        return []
    oldest = min(started(run) for run in [*live, runs[0]]) - BATCH_SECONDS
    together = [run for run in runs if started(run) >= oldest]
    shown = [run for run in together if run.status["state"] == "running"]
    shown += [run for run in together if run not in shown and _has_curve(run)]
    return shown[:CURVES]


def started(run: Run) -> float:
    """Return when the run was requested, in Unix seconds: the time of its config file."""
    return file_stamp(run.path / "config.json")[0] / 1e9


def curve_stamp(runs: list[Run]) -> tuple:
    """Return a value that changes whenever a curve or a title changes."""
    return tuple((run.title, *(file_stamp(run.path / name) for name in ("history.csv", "steps.csv"))) for run in runs)


def places() -> dict[str, int]:
    """Return the number of runs ahead in the queue, by run id."""
    return {name: ahead for ahead, name in enumerate(waiting())}


def expected_starts(live: list[Run], seconds: Callable[[Run], float], devices: int) -> tuple[dict[str, float], float]:
    """Return in how many seconds each queued run is expected to start, by run id, and when a new one would.

    Args:
        live: the queued and running runs.
        seconds: returns how long a run takes from its turn to its results.
        devices: how many runs train at once.
    """
    ahead = places()
    now, free = time.time(), [0.0] * devices
    running = [(run, run.status) for run in live if run.id not in ahead]
    for run, status in [(run, status) for run, status in running if status["state"] == "running"][:devices]:
        rest = seconds(run) - max(0.0, now - status.get("started", now))
        heapq.heapreplace(free, max(rest, status.get("seconds_left") or 0.0, 1.0))
    starts = {}
    for run in sorted((run for run in live if run.id in ahead), key=lambda run: ahead[run.id]):
        starts[run.id] = heapq.heappop(free)
        heapq.heappush(free, starts[run.id] + seconds(run))
    for run in (run for run in live if run.id not in ahead and run.status["state"] == "queued"):  # just started
        heapq.heapreplace(free, free[0] + seconds(run))
    return starts, free[0]


def start_words(seconds: float) -> str:
    """Return when a queued run is expected to start: "starts in about 2 min"."""
    return f"starts in about {duration_words(seconds)}" if seconds > 1 else "starts soon"


def patience_words(config: RunConfig, history: pd.DataFrame) -> str:
    """Return how near early stopping is: "no better loss for 2 of 5 epochs"; empty if it is off or has no epoch yet."""
    best = best_epoch(history)
    if not config.early_stopping or best is None:
        return ""
    waited = int(history["epoch"].max()) - best
    if waited == 0:
        return "best loss so far"
    return f"no better loss for {waited} of {config.early_stopping} epochs"


def rate_words(history: pd.DataFrame) -> str:
    """Return the learning rate of the last epoch in words."""
    if STRENGTH in history:
        return f"C = {history[STRENGTH].iloc[-1]:g}" if len(history) else ""
    rates = history["learning_rate"].dropna()
    return f"learning rate {rates.iloc[-1]:.2g}" if len(rates) else ""


def owners(runs: list[Run]) -> list[str]:
    """Return the owners of these runs in alphabetical order."""
    return sorted({run.about["owner"] for run in runs} - {""}, key=str.lower)


def of_owner(runs: list[Run], owner: str | None) -> list[Run]:
    """Return the runs of one owner, or all of them for None."""
    return [run for run in runs if owner is None or run.about["owner"] == owner]


def best_epoch(history: pd.DataFrame) -> int | None:
    """Return the epoch with the lowest validation loss so far."""
    checked = history.dropna(subset=["val_loss"])
    return None if checked.empty else int(checked["epoch"].iloc[int(checked["val_loss"].argmin())])


def best_words(run: Run) -> str:
    """Say which epoch's weights a run keeps, and why not those of a more accurate one; "" before the first epoch."""
    history = run.history
    if (best := best_epoch(history)) is None:
        return ""
    cells = int((run.split["part"] == "validation").sum())
    right = history.set_index("epoch")["val_accuracy"]
    if STRENGTH in history:
        chosen = history.set_index("epoch")[STRENGTH][best]
        cells = int((run.split["part"] == "train").sum())
        return (
            f"the loss on held-out subjects is lowest at C = {chosen:g}, which is kept: {right[best]:.1%} of {cells:,} "
            "cells are right by a head that has not seen their subject."
        )
    words = f"the validation loss is lowest in epoch {best}, whose weights are kept: "
    words += f"{right[best]:.1%} of {cells:,} validation cells are right."
    if right.max() > right[best]:
        words += f" Epoch {right.idxmax()} had more right, {right.max():.1%}, but a higher loss."
    return words


def _has_curve(run: Run) -> bool:
    return any(file_stamp(run.path / name)[1] > 0 for name in ("history.csv", "steps.csv"))
