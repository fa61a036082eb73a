"""The train page's runs under way, polled while there are any: curves, a row each, the place in the queue."""

import time
from pathlib import Path

import streamlit as st

from leukodash.app.common import dataset, plain
from leukodash.app.train.live_chart import chart_data, live_chart
from leukodash.app.train.past_runs import act, all_runs, heading
from leukodash.errors import LeukoDashError
from leukodash.figures.training_curves import history_figure
from leukodash.jobs import launch as jobs
from leukodash.jobs.estimate import estimate
from leukodash.jobs.hardware import device_names, gpu_words
from leukodash.jobs.live_status import (
    best_epoch,
    curve_names,
    curve_runs,
    curve_stamp,
    expected_starts,
    left_words,
    live_runs,
    of_owner,
    patience_words,
    places,
    queue_words,
    rate_words,
    stage_words,
    start_words,
    stopping,
)
from leukodash.models.weights import find_weights
from leukodash.runs.run_folder import Run, finished

LIVE_SHOWN = 6  # rows; a class of thirty that waits is counted, not listed every second
UNKNOWN_SECONDS = 60.0  # of a run whose data set is gone
REDRAW_SECONDS = 0.4  # between the pages of a class that are drawn anew when a run has ended, not all at once


def live_part() -> None:
    """Curves and the rows of what is under way. Runs as a fragment: reads the run folders anew each time."""
    runs, _ = all_runs()
    live = live_runs(runs)
    ids = [run.id for run in live]
    ended = [run_id for run_id in st.session_state["live"] if run_id not in ids]
    if ended and _my_turn():
        st.rerun(scope="app")  # the rest of the page must know
    st.session_state["live"] = [*ids, *ended]
    owner = st.session_state.get("of")
    shown = curve_runs(of_owner(runs, owner), of_owner(live, owner))
    st.markdown(_verdict(shown, live))
    paths, stamp = tuple(str(run.path) for run in shown), curve_stamp(shown)
    for column, metric in zip(st.columns(2), ("accuracy", "loss"), strict=True):
        with column:
            live_chart(_curves(paths, metric, stamp), key=f"curve-{metric}")
    ahead, starts = places(), _starts(live, runs)
    rows = of_owner(live, owner)
    count = st.session_state.get("live-shown", LIVE_SHOWN)
    for run in rows[:count]:
        _live_row(run, ahead.get(run.id), starts.get(run.id))
    if len(rows) > count and st.button(f"{len(rows) - count} more in line", key="more-live", type="tertiary"):
        st.session_state["live-shown"] = len(rows)
        st.rerun(scope="fragment")


@st.cache_resource(show_spinner=False)
def _last_redraw() -> list[float]:
    return [0.0]


def _my_turn() -> bool:
    """Whether no other session's page is being drawn anew right now; if so, this one's is."""
    last, now = _last_redraw(), time.monotonic()
    if now < last[0] + REDRAW_SECONDS:
        return False
    last[0] = now
    return True


def _verdict(shown: list[Run], live: list[Run]) -> str:
    """What the curves say, in a sentence."""
    if not shown:
        return "Starting: the first point comes within half a minute." if live else "Nothing has been trained yet."
    said = []
    for name, run in curve_names(shown).items():
        history = run.history
        if best := best_epoch(history):
            row = history[history["epoch"] == best].iloc[0]
            right = f"{row['val_accuracy']:.1%} of the validation cells right"
            said.append(f"**{plain(name)}** is best in epoch {best}: {right}")
    if said:
        return "; ".join(said[:3]) + "."
    return "The first epoch is under way." if any(len(run.steps) for run in shown) else "Getting ready."


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(paths: tuple[str, ...], metric: str, stamp: tuple) -> dict[str, str]:
    """Draw the curves; drawn anew only where a file has changed, which `stamp` tells."""
    names = curve_names([Run(Path(path)) for path in paths])
    backbones = {name: run.config.backbone for name, run in names.items()}
    histories = {name: run.history for name, run in names.items()}
    steps = {name: run.steps for name, run in names.items()}
    return chart_data(history_figure(histories, metric, backbones, steps))


def _starts(live: list[Run], runs: list[Run]) -> dict[str, float]:
    """In how many seconds each waiting run is expected to start."""
    done = len(finished(runs))  # each run that finishes makes the estimate of the next ones better
    seconds = dict(zip(live, _seconds(tuple(run.id for run in live), done, live, runs), strict=True))
    return expected_starts(live, seconds.__getitem__, len(device_names()))


@st.cache_data(max_entries=64, show_spinner=False)
def _seconds(ids: tuple[str, ...], done: int, _live: list[Run], _runs: list[Run]) -> list[float]:
    """What each run takes from its turn to its results; estimated anew where one more is `done`."""
    found = []
    for place, run in enumerate(_live):
        config = run.config
        if config.weights == "imagenet" and find_weights(config.spec) is None:
            config = config.as_random_start()
        try:
            before = [run.config for run in _live[:place]]
            found.append(estimate(config, dataset(config.data), _runs, before).seconds)
        except (LeukoDashError, OSError):
            found.append(UNKNOWN_SECONDS)
    return found


def _live_row(run: Run, ahead: int | None, start: float | None) -> None:
    status = run.status
    queued = status["state"] == "queued"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(heading(run), width="stretch")
            asked = stopping(run)
            words = "Stopping …" if asked else "Cancel" if queued else "Stop"
            stop = {"icon": ":material/stop_circle:", "on_click": act, "args": (jobs.stop, run)}
            st.button(words, key=f"stop-{run.id}", disabled=asked, **stop)
        if queued:
            said = [stage_words(status) if ahead is None else queue_words(ahead)]
            said += [start_words(start)] if start is not None else []
        else:
            device, history = status.get("device", ""), run.history
            said = [stage_words(status), left_words(status)]
            if status["stage"] == "training":
                said += [patience_words(run.config, history), rate_words(history)]
            said += [device, gpu_words(device)]
        st.progress(0.0 if queued else min(1.0, status["progress"]), " · ".join(part for part in said if part))
