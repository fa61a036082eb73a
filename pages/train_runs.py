"""The train page's runs: what is under way (polled while anything is), and what was, newest first."""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from leukodash.errors import LeukoDashError
from leukodash.figures.history import history_figure, sparkline
from leukodash.figures.theme import alt_text, color
from leukodash.models.backbones import BACKBONES
from leukodash.runs import jobs
from leukodash.runs.estimate import duration_words
from leukodash.runs.folder import Run, delete_run, list_runs
from leukodash.runs.progress import (
    best_epoch,
    curve_names,
    curve_runs,
    curve_stamp,
    left_words,
    live_runs,
    places,
    queue_words,
    readable,
    stage_words,
    stopping,
)
from pages.shared import accuracy_words, badges

PAST_SHOWN = 6
STATE_BADGES = {
    "stopped": ":gray-badge[:material/stop_circle: stopped]",
    "lost": ":orange-badge[:material/heart_broken: lost: its process is gone]",
    "failed": ":red-badge[:material/error: failed]",
}


def all_runs() -> tuple[list[Run], list[str]]:
    """Return the runs that can be read, newest first, and a sentence on each of the others."""
    return readable(list_runs())


def live_part() -> None:
    """Curves and the rows of what is under way. Runs as a fragment: reads the run folders anew each time."""
    runs, _ = all_runs()
    live = live_runs(runs)
    if {run.id for run in live} != set(st.session_state["live"]):
        st.rerun(scope="app")  # something began or ended: the rest of the page must know
    shown = curve_runs(runs, live)
    st.markdown(_verdict(shown, live))
    # Streamlit (1.67) mounts a Plotly chart anew whenever its data change, whatever its key and uirevision: a zoom
    # would be lost with each point.
    hold = bool(live) and st.toggle("Hold the curves still, to zoom in", key="hold")
    if not (hold and st.session_state.get("held")):
        paths, stamp = tuple(str(run.path) for run in shown), curve_stamp(shown)
        st.session_state["held"] = {metric: _curves(paths, metric, stamp) for metric in ("accuracy", "loss")}
    for column, (metric, figure) in zip(st.columns(2), st.session_state["held"].items(), strict=True):
        column.plotly_chart(figure, key=f"curve-{metric}", config={"displayModeBar": False}, alt=alt_text(figure))
    ahead = places()
    for run in live:
        _live_row(run, ahead.get(run.id))


def _verdict(shown: list[Run], live: list[Run]) -> str:
    """What the curves say, in a sentence."""
    if not shown:
        return "Starting: the first point comes within half a minute." if live else "Nothing has been trained yet."
    said = []
    for name, run in curve_names(shown).items():
        history = run.history
        if best := best_epoch(history):
            row = history[history["epoch"] == best].iloc[0]
            said.append(f"**{name}** is best in epoch {best}: {row['val_accuracy']:.1%} of the validation cells right")
    if said:
        return "; ".join(said[:3]) + "."
    return "The first epoch is under way." if any(len(run.steps) for run in shown) else "Getting ready."


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(paths: tuple[str, ...], metric: str, stamp: tuple) -> go.Figure:
    """Draw the curves; drawn anew only where a file has changed, which `stamp` tells."""
    names = curve_names([Run(Path(path)) for path in paths])
    backbones = {name: run.config.backbone for name, run in names.items()}
    histories = {name: run.history for name, run in names.items()}
    return history_figure(histories, metric, backbones, {name: run.steps for name, run in names.items()})


def _live_row(run: Run, ahead: int | None) -> None:
    status = run.status
    queued = status["state"] == "queued"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(_heading(run), width="stretch")
            asked = stopping(run)
            words = "Stopping …" if asked else "Cancel" if queued else "Stop"
            stop = {"icon": ":material/stop_circle:", "on_click": _do, "args": (jobs.stop, run)}
            st.button(words, key=f"stop-{run.id}", disabled=asked, **stop)
        said = queue_words(ahead) if queued and ahead is not None else stage_words(status)
        said = " · ".join(part for part in (said, left_words(status), status.get("device", "")) if part)
        st.progress(0.0 if queued else min(1.0, status["progress"]), said)


def _heading(run: Run) -> str:
    owner = f" :small[by {run.about['owner']}]" if run.about["owner"] else ""
    return f"**{run.title}**{owner}"


def past_part(past: list[Run]) -> None:
    """Cards of the runs that are over, newest first."""
    count = st.session_state.get("past-shown", PAST_SHOWN)
    for run in past[:count]:
        _past_card(run)
    if len(past) > count and st.button(f"Show more ({len(past) - count} older)"):
        st.session_state["past-shown"] = count + 20
        st.rerun()


def _past_card(run: Run) -> None:
    metrics, state = run.metrics, run.status["state"]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            if curve := list(run.history["val_accuracy"].dropna()):
                words = "Validation accuracy over the epochs."
                st.image(sparkline(curve, color(run.config.backbone)), width=140, alt=words)
            with st.container(width="stretch", gap=None):
                st.markdown(_heading(run))
                if metrics:
                    took = duration_words(sum(metrics["seconds"].values()))
                    st.markdown(f"{accuracy_words(metrics)} :small[after {took}]  \n{badges(run)}")
                else:
                    st.markdown(STATE_BADGES.get(state, state))
                if run.about["notes"]:
                    st.caption(run.about["notes"])
            _actions(run, bool(metrics))
        if state == "failed":
            st.error(run.status.get("error") or "The run ended without saying why: see its log.")
        if state in ("failed", "lost"):
            with st.expander("The log's last lines"):
                st.code(run.log_tail() or "The log is empty.", language=None)


def _actions(run: Run, has_results: bool) -> None:
    with st.container(horizontal=True, width="content", vertical_alignment="center"):
        if has_results:
            st.page_link("pages/compare.py", label="Compare", query_params={"runs": run.id})
            st.page_link("pages/classify.py", label="Classify", query_params={"runs": run.id})
        else:
            resume = {"icon": ":material/play_arrow:", "on_click": _do, "args": (jobs.resume, run)}
            st.button("Resume", key=f"resume-{run.id}", **resume)
        with st.popover("", icon=":material/more_vert:", key=f"more-{run.id}", help="Restart, rename, delete"):
            st.button("Restart with changes", key=f"again-{run.id}", on_click=_restart, args=(run,), type="tertiary")
            if st.button("Name, owner and notes", key=f"about-{run.id}", type="tertiary"):
                _about_dialog(run)
            if st.button("Delete", key=f"delete-{run.id}", type="tertiary"):
                _delete_dialog(run)


def _restart(run: Run) -> None:
    """Fill the form from a run: a callback, since widgets that exist cannot be changed later."""
    for name in BACKBONES:
        st.session_state[f"use-{name}"] = name == run.config.backbone
    st.session_state["preset"] = run.config.preset
    st.session_state["from-run"] = run.id


@st.dialog("Name, owner and notes")
def _about_dialog(run: Run) -> None:
    about = {
        "title": st.text_input("Name", run.about["title"], placeholder=run.title),
        "owner": st.text_input("Owner", run.about["owner"]),
        "notes": st.text_area("Notes", run.about["notes"]),
    }
    if st.button("Save", type="primary"):
        run.write("about.json", about)
        st.rerun()


@st.dialog("Delete this run?")
def _delete_dialog(run: Run) -> None:
    st.markdown(f"{_heading(run)}: its curves, predictions and weights go for good.")
    if st.button("Delete for good", type="primary", on_click=_do, args=(delete_run, run)):
        st.rerun()


def _do(action: Callable[[Run], object], run: Run) -> None:
    """Do something with a run, before the page is drawn anew; says why where that cannot be."""
    try:
        action(run)
    except LeukoDashError as error:
        st.toast(str(error), icon=":material/error:", duration="long")
