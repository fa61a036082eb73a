"""Live runs on the train page, polled every second: curves, a row for each run, and its position in the queue."""

import time
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
import streamlit as st

from leukodash.app.common import dataset, plain
from leukodash.app.sign_in import current_actor
from leukodash.app.train.live_chart import chart_data, live_chart
from leukodash.app.train.past_runs import act, heading
from leukodash.errors import LeukoDashError
from leukodash.figures.training_curves import example_figure, history_figure
from leukodash.jobs import launch as jobs
from leukodash.jobs.estimate import estimate
from leukodash.jobs.hardware import device_names, gpu_words
from leukodash.jobs.live_status import (
    best_words,
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
from leukodash.runs.access import refusal, visible
from leukodash.runs.leaderboard import run_names
from leukodash.runs.locks import stop_requested
from leukodash.runs.run_folder import Run, finished, list_runs, readable

Metric = Literal["accuracy", "loss"]

READING = "Solid: validation cells, not trained on. Dotted: training cells. Ring: the epoch kept."
SENTENCES = 3  # about the runs that are drawn
HEIGHT = 260  # pixels of each of the two charts

LIVE_SHOWN = 6  # rows; the queue of a class of thirty is counted, not listed every second
UNKNOWN_SECONDS = 60.0  # estimate for a run whose data set is missing
REDRAW_SECONDS = 0.4  # between full reruns of the sessions of a class when a run ends, so that they do not all coincide


def live_part() -> None:
    """Show curves and rows of the live runs. Runs as a fragment, and reads the run folders each time."""
    every = readable(list_runs())[0]
    runs = visible(current_actor(), every)
    live = live_runs(runs)
    ids = [run.id for run in live]
    ended = [run_id for run_id in st.session_state["live"] if run_id not in ids]
    if ended and _may_redraw():
        st.rerun(scope="app")  # the rest of the page changes too
    st.session_state["live"] = [*ids, *ended]
    owner = st.session_state.get("of")
    rows = of_owner(live, owner)
    shown = curve_runs(of_owner(runs, owner), rows)
    first, *others = _sentences(shown, rows)
    st.markdown(first)
    st.caption(READING)
    paths, stamp = tuple(str(run.path) for run in shown), curve_stamp(shown)
    epochs = max((run.config.epochs for run in shown if run in rows), default=None)
    metrics: tuple[Metric, ...] = ("accuracy", "loss")
    for metric in metrics:
        data = _curves(paths, metric, epochs, stamp) if shown or rows else _example(metric)
        live_chart(data, key=f"curve-{metric}")
    for sentence in others[: SENTENCES - 1]:
        st.markdown(sentence)
    ahead, starts = places(), turns(live_runs(every), every)[0]
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


def _sentences(shown: list[Run], live: list[Run]) -> list[str]:
    """Say in a sentence a run how it is learning: of the live runs, or of those shown when none is live."""
    if not shown and not live:
        return ["**How is it learning?** The curves of your run are drawn here while it trains."]
    names = {run: name for name, run in run_names(shown).items()}
    running = [run for run in shown if run in live and run.status["state"] == "running"]
    if live and not running:
        starts = "is starting" if live[0].status.get("starting") else "waits for its turn"
        return [f"**{plain(live[0].title)}** {starts}."]
    sentences = []
    for run in running or shown:
        words = best_words(run) or f"{plain(stage_words(run.status))}. Its curve begins with the first epoch."
        sentences.append(f"**{plain(names[run])}**: {words}")
    return sentences


@st.cache_data(max_entries=16, show_spinner=False)  # up to a megabyte each
def _curves(paths: tuple[str, ...], metric: Metric, epochs: int | None, stamp: tuple) -> dict[str, str]:
    """Draw the curves; the cache redraws them only when a file has changed, which `stamp` shows."""
    names = run_names([Run(Path(path)) for path in paths])
    backbones: dict[str, str | None] = {name: run.config.backbone for name, run in names.items()}
    histories = {name: run.history for name, run in names.items()}
    steps = {name: run.steps for name, run in names.items()}
    return chart_data(_stacked(history_figure(histories, metric, backbones, steps, epochs), metric))


@st.cache_data(max_entries=2, show_spinner=False)
def _example(metric: Metric) -> dict[str, str]:
    return chart_data(_stacked(example_figure(metric), metric))


def _stacked(figure: go.Figure, metric: Metric) -> go.Figure:
    """Fit a figure for one of two charts above each other: the upper one has the legend, which scrolls on a phone."""
    figure.update_layout(height=HEIGHT, showlegend=metric == "accuracy", legend_maxheight=0.25)
    figure.layout.yaxis.title.text = figure.layout.yaxis.title.text.split(" (")[0]  # `READING` says it
    return figure


def turns(live: list[Run], runs: list[Run]) -> tuple[dict[str, float], float]:
    """Return the seconds until each queued run is expected to start, by run id, and until a new one would."""
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
            words = refusal(current_actor(), "stop", run)
            label = "Stopping …" if stopped else "Cancel" if queued else "Stop"
            st.button(
                label, key=f"stop-{run.id}", disabled=stopped or bool(words), icon=":material/stop_circle:",
                on_click=act, args=(jobs.stop, run), help=plain(words) or None,
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
        words = " · ".join(part for part in parts if part)
        st.progress(0.0 if queued else min(1.0, status["progress"]), plain(words))
