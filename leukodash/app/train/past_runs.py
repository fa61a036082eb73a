"""Finished, stopped and failed runs on the train page, newest first, and their actions."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from leukodash import settings
from leukodash.app.common import accuracy_words, badges, plain
from leukodash.app.navigation import page
from leukodash.app.sign_in import current_actor
from leukodash.app.train.address import fill_form
from leukodash.errors import LeukoDashError
from leukodash.figures.theme import color
from leukodash.figures.training_curves import sparkline
from leukodash.jobs import launch as jobs
from leukodash.jobs.estimate import duration_words
from leukodash.jobs.live_status import owners
from leukodash.runs import trash
from leukodash.runs.access import Actor, change_about, refusal, visible
from leukodash.runs.run_folder import LIVE, MAX_CHARACTERS, Run, readable, run_folders

PAST_SHOWN = 6
STATE_BADGES = {
    "stopped": ":gray-badge[:material/stop_circle: stopped]",
    "lost": ":orange-badge[:material/heart_broken: lost: its process ended unexpectedly]",
    "failed": ":red-badge[:material/error: failed]",
}


def all_runs() -> tuple[list[Run], list[Run], list[Run]]:
    """Return the runs that were trained here, newest first: everybody's, and those that this session may see.

    All of them are whole. And the damaged ones that it may see, imported ones too.
    """
    whole, damaged = readable(run_folders())
    every, actor = [run for run in whole if not run.imported], current_actor()
    return every, visible(actor, every), visible(actor, damaged)


def owner_filter(runs: list[Run]) -> None:
    """Let the user filter runs by owner, if any run has one; the choice is in session state as ``of``."""
    names = owners(runs)
    if not names:
        st.session_state.pop("of", None)
        return
    if st.session_state.get("of") not in (None, *names):
        st.session_state["of"] = None  # that owner has no runs any more
    st.pills(
        "Runs of", names, key="of", format_func=plain, label_visibility="collapsed", persist_state="session", wrap=True
    )


def heading(run: Run) -> str:
    """Return a run's title and owner as Markdown; both are untrusted text."""
    owner = f" :small[by {plain(run.about['owner'])}]" if run.about["owner"] else ""
    return f"**{plain(run.title)}**{owner}"


def past_part(past: list[Run]) -> None:
    """Show cards of finished, stopped and failed runs, newest first."""
    count = st.session_state.get("past-shown", PAST_SHOWN)
    for run in past[:count]:
        _past_card(run)
    if len(past) > count and st.button(f"Show more ({len(past) - count} older)"):
        st.session_state["past-shown"] = count + 20
        st.rerun()


def undo_part() -> None:
    """Offer to restore runs deleted in this session; other runs in the trash are removed after a day."""
    if "deleted" not in st.session_state:
        st.session_state["deleted"] = {}
        trash.purge()
    for name, words in st.session_state["deleted"].items():
        with st.container(horizontal=True, vertical_alignment="center", key=f"deleted-{name}"):
            st.markdown(f":material/delete: {words} was deleted.", width="content")
            st.button("Undo", key=f"undo-{name}", on_click=_undo, args=(name,), type="tertiary")


def damaged_part(damaged: list[Run]) -> None:
    """Show which runs are damaged, what to do, and a button that deletes them, or first stops one that is running."""
    if damaged:
        st.subheader("Damaged runs")
    for run in damaged:
        _damaged_card(run, run.problem)


def _damaged_card(run: Run, problem: str) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f"{heading(run)}  \n:material/broken_image: {plain(problem)}", width="stretch")
        if run.state in LIVE:
            st.button("Stop", key=f"stop-{run.id}", on_click=act, args=(jobs.stop, run))
        else:
            st.button("Delete", key=f"delete-{run.id}", on_click=_delete, args=(run,))


def _past_card(run: Run) -> None:
    if problem := run.full_problem:
        _damaged_card(run, problem)
        return
    metrics, state = run.metrics, run.status["state"]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            if curve := list(run.history["val_accuracy"].dropna()):
                alt = "Validation accuracy over the epochs."
                st.image(sparkline(curve, color(run.config.backbone)), width=140, alt=alt)
            with st.container(width="stretch", gap=None):
                st.markdown(heading(run))
                if metrics:
                    took = duration_words(sum(metrics["seconds"].values()))
                    st.markdown(f"{accuracy_words(metrics)} :small[after {took}]  \n{badges(run)}")
                else:
                    st.markdown(STATE_BADGES.get(state, plain(state)))
                if run.about["notes"]:
                    st.caption(plain(run.about["notes"]))
            _actions(run, bool(metrics))
        if state == "failed":
            st.error(plain(run.status.get("error") or "The run ended without an error message: see its log."))
        if state in ("failed", "lost"):
            with st.expander("Last lines of the log"):
                st.code(run.log_tail() or "The log is empty.", language=None)


def _actions(run: Run, has_results: bool) -> None:
    with st.container(horizontal=True, width="content", vertical_alignment="center"):
        if has_results:
            st.page_link(page("compare"), label="Compare", query_params={"runs": run.id})
            st.page_link(page("classify"), label="Classify", query_params={"runs": run.id})
        else:
            words = refusal(current_actor(), "resume", run)
            st.button(
                "Resume", key=f"resume-{run.id}", icon=":material/play_arrow:", on_click=act, args=(jobs.resume, run),
                disabled=bool(words), help=plain(words) or None,
            )  # fmt: skip
        with st.popover("", icon=":material/more_vert:", key=f"more-{run.id}", help="Restart, rename, delete"):
            st.button("Restart with changes", key=f"again-{run.id}", on_click=_restart, args=(run,), type="tertiary")
            if words := refusal(current_actor(), "delete", run):
                st.caption(plain(words))
                return
            if st.button("Name and notes", key=f"about-{run.id}", type="tertiary"):
                _about_dialog(run)
            st.button("Delete", key=f"delete-{run.id}", on_click=_delete, args=(run,), type="tertiary")


def _restart(run: Run) -> None:
    """Fill the form from a run. A callback, since the values of existing widgets cannot be set."""
    st.session_state.update({"backbones": [run.config.backbone], "preset": run.config.preset})
    fill_form({}, run.id)
    st.session_state["vary"] = None  # one run, not its whole sweep


@st.dialog("Name and notes")
def _about_dialog(run: Run) -> None:
    most, texts = MAX_CHARACTERS, {}
    texts["title"] = st.text_input("Name", run.about["title"], max_chars=most["title"], placeholder=run.title)
    if not settings.shared():  # otherwise it is whoever started the run
        texts["owner"] = st.text_input("Owner", run.about["owner"], max_chars=most["owner"])
    texts["notes"] = st.text_area("Notes", run.about["notes"], max_chars=most["notes"])
    if st.button("Save", type="primary"):
        try:
            change_about(run, current_actor(), **texts)
        except LeukoDashError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun()


def _delete(run: Run) -> None:
    words = heading(run)
    act(trash.discard, run)
    if not run.path.exists():
        st.session_state["deleted"][run.id] = words


def _undo(name: str) -> None:
    st.session_state["deleted"].pop(name)
    act(trash.bring_back, name)


def act(action: Callable[[Any, Actor], object], subject: Run | str) -> None:
    """Apply an action of this session's person to a run, and show the error if it fails. A callback."""
    try:
        action(subject, current_actor())
    except LeukoDashError as error:
        st.toast(plain(str(error)), icon=":material/error:", duration="long")
