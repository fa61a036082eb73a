"""Live runs on the train page, polled every second: curves, a row for each run, and its position in the queue."""

import time
from pathlib import Path
from typing import Literal

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
)
from leukodash.models.weights import find_weights
from leukodash.runs.locks import stop_requested
from leukodash.runs.run_folder import Run, finished

Metric = Literal["accuracy", "loss"]

LIVE_SHOWN = 6  # rows; the queue of a class of thirty is counted, not listed every second
UNKNOWN_SECONDS = 60.0  # estimate for a run whose data set is missing
REDRAW_SECONDS = 0.4  # between full reruns of the sessions of a class when a run ends, so that they do not all coincide


def live_part() -> None:
    """Show curves and rows of the live runs. Runs as a fragment, and reads the run folders each time."""
    runs, _ = all_runs()
    live = live_runs(runs)
    ids = [run.id for run in live]
    ended = [run_id for run_id in st.session_state["live"] if run_id not in ids]
    if ended and _may_redraw():
        st.rerun(scope="app")  # the rest of the page changes too
    st.session_state["live"] = [*ids, *ended]
    owner = st.session_state.get("of")
    shown = curve_runs(of_owner(runs, owner), of_owner(live, owner))
    st.markdown(_verdict(shown, live))
    paths, stamp = tuple(str(run.path) for run in shown), curve_stamp(shown)
    metrics: tuple[Metric, ...] = ("accuracy", "loss")
    for column, metric in zip(st.columns(2), metrics, strict=True):
        with column:
            live_chart(_curves(paths, metric, stamp), key=f"curve-{metric}")
    ahead, starts = places(), _starts(live, runs)
    rows = of_owner(live, owner)
    count = st.session_state.get("live-shown", LIVE_SHOWN)
    for run in rows[:count]:
        _live_row(run, ahead.get(run.id), starts.get(run.id))
    if len(rows) > count and st.button(f"{len(rows) - count} more in the queue", key="more-live", type="tertiary"):
        st.session_state["live-shown"] = len(rows)
        st.rerun(scope="fragment")


@st.cache_resource(show_spinner=False)
def _last_redraw() -> list[float]:
    return [0.0]


def _may_redraw() -> bool:
    """Return whether no other session is redrawing its page right now; if so, this session takes the slot."""
    last, now = _last_redraw(), time.monotonic()
    if now < last[0] + REDRAW_SECONDS:
        return False
    last[0] = now
    return True


def _verdict(shown: list[Run], live: list[Run]) -> str:
    """Summarize the curves in a sentence."""
    if not shown:
        return "Starting: the first point appears within half a minute." if live else "Nothing has been trained yet."
    sentences = []
    for name, run in curve_names(shown).items():
        history = run.history
        if best := best_epoch(history):
            row = history[history["epoch"] == best].iloc[0]
            accuracy = f"validation accuracy {row['val_accuracy']:.1%}"
            sentences.append(f"**{plain(name)}** has its lowest validation loss in epoch {best}: {accuracy}")
    if sentences:
        return "; ".join(sentences[:3]) + "."
    return "The first epoch is running." if any(len(run.steps) for run in shown) else "Preparing."


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(paths: tuple[str, ...], metric: Metric, stamp: tuple) -> dict[str, str]:
    """Draw the curves; the cache redraws them only when a file has changed, which `stamp` shows."""
    names = curve_names([Run(Path(path)) for path in paths])
    backbones: dict[str, str | None] = {name: run.config.backbone for name, run in names.items()}
    histories = {name: run.history for name, run in names.items()}
    steps = {name: run.steps for name, run in names.items()}
    return chart_data(history_figure(histories, metric, backbones, steps))


def _starts(live: list[Run], runs: list[Run]) -> dict[str, float]:
    """Return the seconds until each queued run is expected to start, by run id."""
    done = len(finished(runs))  # each finished run improves the estimates
    seconds = dict(zip(live, _seconds(tuple(run.id for run in live), done, live, runs), strict=True))
    return expected_starts(live, seconds.__getitem__, len(device_names()))


@st.cache_data(max_entries=64, show_spinner=False)
def _seconds(ids: tuple[str, ...], done: int, _live: list[Run], _runs: list[Run]) -> list[float]:
    """Return the estimated duration of each run; recomputed when one more run is `done`."""
    estimates = []
    for place, run in enumerate(_live):
        config = run.trained
        if config.weights == "imagenet" and find_weights(config.spec) is None:
            config = config.as_random_start()
        try:
            before = [run.trained for run in _live[:place]]
            estimates.append(estimate(config, dataset(config.data), _runs, before).seconds)
        except (LeukoDashError, OSError):
            estimates.append(UNKNOWN_SECONDS)
    return estimates


def _live_row(run: Run, ahead: int | None, start: float | None) -> None:
    status = run.status
    queued = status["state"] == "queued"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(heading(run), width="stretch")
            stopped = stop_requested(run.path)
            label = "Stopping …" if stopped else "Cancel" if queued else "Stop"
            st.button(
                label, key=f"stop-{run.id}", disabled=stopped, icon=":material/stop_circle:", on_click=act,
                args=(jobs.stop, run),
            )  # fmt: skip
        if queued:
            parts = [stage_words(status) if ahead is None else queue_words(ahead)]
            parts += [start_words(start)] if start is not None else []
        else:
            device, history = status.get("device", ""), run.history
            parts = [stage_words(status), left_words(status)]
            if status["stage"] == "training":
                parts += [patience_words(run.config, history), rate_words(history)]
            parts += [device, gpu_words(device)]
        st.progress(0.0 if queued else min(1.0, status["progress"]), " · ".join(part for part in parts if part))
