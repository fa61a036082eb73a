"""Train: "how is it learning?" Choose cells and networks, start, and watch the curves."""

import streamlit as st

from leukodash import settings
from leukodash.app.common import choose_dataset, libraries_loaded, plain
from leukodash.app.train.live_runs import live_part
from leukodash.app.train.past_runs import all_runs, owner_filter, past_part, undo_part
from leukodash.app.train.setting_tools import finder, preview
from leukodash.app.train.settings_form import backbone_cards, settings_form, sweep_form
from leukodash.app.train.start_button import split_summary, start_row
from leukodash.config.form_schema import changes, differences
from leukodash.config.presets import PRESETS, make_config
from leukodash.data.data_check import problem_folders
from leukodash.data.dataset import Dataset, label_title
from leukodash.errors import LeukoDashError
from leukodash.jobs.live_status import live_runs, of_owner
from leukodash.jobs.sweep import Planned, plan
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import Run, find_run

STATE_WORDS = {
    "finished": ("has finished", ":material/check_circle:"),
    "stopped": ("was stopped", ":material/stop_circle:"),
    "failed": ("failed", ":material/error:"),
    "lost": ("was lost: its process ended unexpectedly", ":material/heart_broken:"),
}


def dataset_line(dataset: Dataset) -> str:
    """Summarize the data set, and mark it as real or generated."""
    cells = dataset.cells
    classes = ", ".join(f"{(cells['label'] == label).sum():,} {label_title(label)}" for label in dataset.classes)
    subjects = f"{cells['subject'].nunique():,} subjects" if dataset.has_subjects else "subjects unknown"
    mark = ":violet-badge[:material/draw: generated]" if dataset.generated else ":green-badge[:material/biotech: real]"
    return f"{mark} {len(cells):,} cells · {classes} · {subjects}"


def old_run(preset: str) -> Run | None:
    """Return the run that fills the form, until another preset is chosen."""
    try:
        run = find_run(st.session_state["from-run"])
    except (KeyError, LeukoDashError):
        return None
    return run if run.config.preset == preset else None


def chosen_runs(dataset: Dataset) -> list[Planned]:
    """Show the form; returns the planned runs. Raises LeukoDashError for invalid settings."""
    requested = [name for name in st.query_params.get("backbones", "mobilenet").split(",") if name in BACKBONES]
    backbones = backbone_cards(requested)
    st.query_params["backbones"] = ",".join(backbones)
    if "preset" not in st.session_state:
        name = st.query_params.get("preset")
        st.session_state["preset"] = name if name in PRESETS else "quick"
    preset = st.pills(
        "Recipe", list(PRESETS), format_func=lambda name: PRESETS[name].title.split(":")[0], key="preset",
        required=True, help="The recipe sets the initial value of every setting.",
    ) or "quick"  # fmt: skip
    st.query_params["preset"] = preset
    if PRESETS[preset].differences:
        with st.expander("Not specified by the paper, or different here"):
            st.markdown("\n".join(f"- {line}" for line in PRESETS[preset].differences))
    first = backbones[0] if backbones else "mobilenet"
    base, before = make_config(preset, first, dataset), old_run(preset)
    start, key = {}, f"{dataset.fingerprint[:8]}-{preset}-{first}"
    if before and before.config.backbone == first:
        start, key = differences(before.config, base), f"{key}-{before.id}"
        st.caption(f":material/replay: Filled from {before.title}. Choose another recipe to reset.")
    values, tabs = settings_form(base, start, key)
    vary, tried = sweep_form(base.spec)
    changed = changes(base, values)
    config = make_config(preset, first, dataset, **changed)
    with tabs["Augmentation"]:
        preview(config, dataset)
    with tabs["Training"]:
        finder(config, f"{key}-learning_rate")
    return plan(preset, backbones, dataset, changed, vary, tried)


def show() -> None:
    """Show the page."""
    libraries_loaded("train")
    runs, unreadable = all_runs()
    live = live_runs(runs)
    for run in runs:
        if run.id in st.session_state.get("live", ()) and run not in live:
            words, icon = STATE_WORDS.get(run.state, (run.state, None))
            st.toast(f"{plain(run.title)} {words}.", icon=icon)
    st.session_state["live"] = [run.id for run in live]

    for sentence in problem_folders(settings.data_root())[:3]:
        st.warning(sentence, icon=":material/folder_off:")
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        dataset = choose_dataset()
    right.markdown(dataset_line(dataset))
    planned: list[Planned] = []
    problem = ""
    try:
        planned = chosen_runs(dataset)
        for split in {run.config.split for run in planned}:
            split_summary(dataset.fingerprint, split, dataset.cells)
    except LeukoDashError as error:
        problem = str(error)
    try:
        start_row(dataset, planned, problem, runs)
    except LeukoDashError as error:
        st.error(str(error), icon=":material/error:")

    st.subheader("How is it learning?", divider="gray")
    owner_filter(runs)
    st.fragment(live_part, run_every="1s" if live else None)()
    for sentence in unreadable:
        st.warning(sentence, icon=":material/folder_off:")
    past = of_owner([run for run in runs if run not in live], st.session_state.get("of"))
    if past or st.session_state.get("deleted"):
        st.subheader("Runs so far")
    undo_part()
    if past:
        past_part(past)
