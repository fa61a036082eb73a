"""Train: "how is it learning?" Choose cells and networks, start, and watch the curves."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash import settings
from leukodash.app.common import choose_dataset, dataset_line, libraries_loaded, page_head, plain
from leukodash.app.train.address import follow_address, form_start, write_address
from leukodash.app.train.live_runs import live_part
from leukodash.app.train.past_runs import all_runs, damaged_part, owner_filter, past_part, undo_part
from leukodash.app.train.setting_tools import finder, preview
from leukodash.app.train.settings_form import choose_backbones, choose_recipe, setting_groups, settings_form, sweep_form
from leukodash.app.train.start_button import split_summary, start_button
from leukodash.config.form_schema import changes, differences
from leukodash.config.presets import make_config
from leukodash.data.data_check import problem_folders
from leukodash.data.dataset import Dataset
from leukodash.errors import LeukoDashError
from leukodash.jobs.live_status import live_runs, of_owner
from leukodash.jobs.sweep import Planned, plan
from leukodash.runs.run_folder import MAX_CHARACTERS, Run

STATE_WORDS = {
    "finished": ("has finished", ":material/check_circle:"),
    "stopped": ("was stopped", ":material/stop_circle:"),
    "failed": ("failed", ":material/error:"),
    "lost": ("was lost: its process ended unexpectedly", ":material/heart_broken:"),
}


def train_form(runs: list[Run], live: list[Run]) -> None:
    """Show the form and its Start button; `runs` are those of all people, on which estimates and the queue depend."""
    problems = follow_address()
    dataset = choose_dataset()
    st.markdown(f":small[{dataset_line(dataset)}]")
    if problems:
        st.warning(plain(" ".join(problems)), icon=":material/link_off:")
    backbones, preset = choose_backbones(), choose_recipe()
    with st.container(horizontal=True):
        slot = st.container(width="content")
        drawer = st.popover("All settings", icon=":material/tune:")
        if not settings.shared():  # elsewhere, runs are those of the person who signed in
            st.text_input(
                "Your name", key="owner", label_visibility="collapsed", placeholder="Your name (optional)",
                persist_state="session", width="stretch", max_chars=MAX_CHARACTERS["owner"],
            )  # fmt: skip
    planned: list[Planned] = []
    problem = ""
    try:
        planned = plan_runs(dataset, backbones, preset, drawer)
        for split in {run.config.split for run in planned}:
            split_summary(dataset.fingerprint, split, dataset.cells)
    except LeukoDashError as error:
        problem = str(error)
    try:
        start_button(slot, dataset, planned, problem, runs, live)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")


def plan_runs(dataset: Dataset, backbones: list[str], preset: str, drawer: DeltaGenerator) -> list[Planned]:
    """Show all settings in the drawer; returns the planned runs. Raises LeukoDashError for invalid settings."""
    first = backbones[0] if backbones else "mobilenet"
    base = make_config(preset, first, dataset)
    key, start, old = form_start((dataset.fingerprint, preset, first))
    if old and (run := Run(settings.checkpoints() / old)).path.is_dir():
        start = differences(run.config, base)
        st.caption(f":material/replay: Filled from {plain(run.title)}. Choose another recipe to reset.")
    groups = setting_groups(base.spec)
    tabs = dict(zip(groups, drawer.tabs(groups), strict=True))
    with tabs["Several values"]:
        vary, tried = sweep_form(base.spec)
    values = settings_form(base, start, key, tabs)
    write_address(backbones, base, values)
    changed = changes(base, values)
    config = make_config(preset, first, dataset, **changed)
    with tabs["Augmentation"]:
        preview(config, dataset)
    with tabs["Main"]:
        finder(config, f"{key}-learning_rate")
    return plan(preset, backbones, dataset, changed, vary, tried)


def show() -> None:
    """Show the page."""
    page_head("Train", "Teach a network to tell leukemia cells from normal ones, and watch how well it learns.")
    libraries_loaded("train")
    every, runs, damaged = all_runs()
    live = live_runs(runs)
    for run in runs:
        if run.id in st.session_state.get("live", ()) and run not in live:
            words, icon = STATE_WORDS.get(run.state, (run.state, None))
            st.toast(f"{plain(run.title)} {plain(words)}.", icon=icon)
    if words := st.session_state.pop("toast", ""):
        st.toast(words, icon=":material/play_circle:")
    st.session_state["live"] = [run.id for run in live]

    for sentence in [] if settings.public() else problem_folders(settings.data_root())[:3]:
        st.warning(plain(sentence), icon=":material/folder_off:")
    left, right = st.columns(2, gap="medium")
    with left:
        train_form(every, live_runs(every))
    with right:
        owner_filter(runs)
        st.fragment(live_part, run_every="1s" if live else None)()
    past = of_owner([run for run in runs if run not in live], st.session_state.get("of"))
    if past or st.session_state.get("deleted"):
        st.subheader("Runs so far")
    undo_part()
    if past:
        past_part(past)
    damaged_part(damaged)
