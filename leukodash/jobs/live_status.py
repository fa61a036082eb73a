"""What a page says of runs under way: words for a stage, places in the queue, which curves belong together."""

import heapq
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.jobs.estimate import duration_words
from leukodash.jobs.queue import waiting
from leukodash.runs.run_folder import LIVE, Run

CURVES = 6  # more lines than that in one chart and none can be followed
BATCH_SECONDS = 120  # runs asked for within this time of the newest count as started together

STAGE_WORDS = {
    "": "starting",
    "preparing": "getting ready",
    "features": "computing features of the frozen layers",
    "training": "training",
    "evaluating": "testing",
}


def readable(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs whose config can be read, and a sentence on each of the others."""
    good, problems = [], []
    for run in runs:
        try:
            _ = run.config, run.trained  # read for their errors
        except RunError as error:
            problems.append(f"{run.id}: {error}")
        else:
            good.append(run)
    return good, problems


def live_runs(runs: list[Run]) -> list[Run]:
    """Return the runs that wait or train, those that train first."""
    states = {run: run.state for run in runs}
    return [run for state in reversed(LIVE) for run in reversed(runs) if states[run] == state]


def stage_words(status: dict) -> str:
    """A few words on what a run is doing, with how far it is: "training · epoch 3 of 20"."""
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
    """How long the stage still takes, or nothing where nobody can tell yet."""
    left = status.get("seconds_left")
    if status["state"] != "running" or left is None or status["progress"] <= 0:
        return ""
    return f"about {duration_words(left)} left"


def stopping(run: Run) -> bool:
    """Whether the run was asked to stop and has not done so yet."""
    return (run.path / "stop").exists()


def curve_runs(runs: list[Run], live: list[Run]) -> list[Run]:
    """Return the runs whose curves are shown: those under way with what was started beside them, else the newest.

    Args:
        runs: all runs, newest first.
        live: those that wait or train.
    """
    if not runs:
        return []
    oldest = min(started(run) for run in [*live, runs[0]]) - BATCH_SECONDS
    together = [run for run in runs if started(run) >= oldest]
    shown = [run for run in together if run.status["state"] == "running"]
    shown += [run for run in together if run not in shown and _has_curve(run)]
    return shown[:CURVES]


def started(run: Run) -> float:
    """When the run was asked for (Unix seconds, after the time of its config)."""
    return _modified(run.path / "config.json")[0] / 1e9


def curve_names(runs: list[Run]) -> dict[str, Run]:
    """Return each run by its title, told apart by the end of its id where two have the same.

    What all runs of a study have in common is left out, so that a legend says what tells them apart.
    """
    tried = {run.id: run.about["label"].split(", ") for run in runs if run.about["label"] and not run.about["title"]}
    common = set.intersection(*map(set, tried.values())) if len(tried) > 1 else set()
    titles = []
    for run in runs:
        told = ", ".join(part for part in tried.get(run.id, ()) if part not in common)
        titles.append(f"{run.config.spec.title}: {told}" if common and told else run.title)
    return {
        title if titles.count(title) == 1 else f"{title} ({run.id[-4:]})": run
        for title, run in zip(titles, runs, strict=True)
    }


def curve_stamp(runs: list[Run]) -> tuple:
    """Return what changes when a curve does, or a title."""
    return tuple((run.title, *(_modified(run.path / name) for name in ("history.csv", "steps.csv"))) for run in runs)


def places() -> dict[str, int]:
    """Return by run id how many are ahead of it in the queue."""
    return {name: ahead for ahead, name in enumerate(waiting())}


def expected_starts(live: list[Run], seconds: Callable[[Run], float], devices: int) -> dict[str, float]:
    """Return by run id in how many seconds each waiting run is expected to start.

    Args:
        live: runs that train or wait.
        seconds: what a run takes from its turn to its results.
        devices: how many train at once.
    """
    ahead = places()
    now, free = time.time(), [0.0] * devices
    running = [(run, run.status) for run in live if run.id not in ahead]
    for run, status in [(run, status) for run, status in running if status["state"] == "running"][:devices]:
        rest = seconds(run) - (now - status.get("started", now))
        heapq.heapreplace(free, max(rest, status.get("seconds_left") or 0.0, 1.0))
    starts = {}
    for run in sorted((run for run in live if run.id in ahead), key=lambda run: ahead[run.id]):
        starts[run.id] = heapq.heappop(free)
        heapq.heappush(free, starts[run.id] + seconds(run))
    return starts


def start_words(seconds: float) -> str:
    """When a waiting run is expected to start: "starts in about 2 min"."""
    return f"starts in about {duration_words(seconds)}" if seconds > 1 else "starts soon"


def patience_words(config: RunConfig, history: pd.DataFrame) -> str:
    """How near early stopping is: "no better loss for 2 of 5 epochs"; empty where it is off or has not begun."""
    best = best_epoch(history)
    if not config.early_stopping or best is None:
        return ""
    waited = int(history["epoch"].max()) - best
    if waited == 0:
        return "best loss so far"
    return f"no better loss for {waited} of {config.early_stopping} epochs"


def rate_words(history: pd.DataFrame) -> str:
    """The learning rate of the last epoch."""
    rates = history["learning_rate"].dropna()
    return f"learning rate {rates.iloc[-1]:.2g}" if len(rates) else ""


def owners(runs: list[Run]) -> list[str]:
    """Return the names of those whose runs these are, in alphabetical order."""
    return sorted({run.about["owner"] for run in runs} - {""}, key=str.lower)


def of_owner(runs: list[Run], owner: str | None) -> list[Run]:
    """Return the runs of one person, or all of them for None."""
    return [run for run in runs if owner is None or run.about["owner"] == owner]


def best_epoch(history: pd.DataFrame) -> int | None:
    """The epoch of the lowest validation loss so far."""
    losses = history["val_loss"].dropna()
    return None if losses.empty else int(history.loc[losses.idxmin(), "epoch"])


def _has_curve(run: Run) -> bool:
    return any(_modified(run.path / name)[1] > 0 for name in ("history.csv", "steps.csv"))


def _modified(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError:
        return 0, 0
    return info.st_mtime_ns, info.st_size
