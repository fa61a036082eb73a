"""Train: "how is it learning?" Choose cells and networks, start, and watch the curves."""

import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.data.check import problem_folders
from leukodash.data.dataset import Dataset, label_title
from leukodash.data.split import Split, make_split, split_words
from leukodash.errors import LeukoDashError
from leukodash.models.backbones import BACKBONES
from leukodash.models.weights import find_weights
from leukodash.runs import jobs
from leukodash.runs.config import PRESETS, RunConfig, make_config
from leukodash.runs.estimate import estimate, estimate_words
from leukodash.runs.folder import Run, find_run
from leukodash.runs.form import changes, differences
from leukodash.runs.progress import live_runs
from pages.shared import choose_dataset, through_the_router
from pages.train_form import backbone_cards, settings_form
from pages.train_runs import all_runs, live_part, past_part

through_the_router()

STATE_WORDS = {
    "finished": ("has finished", ":material/check_circle:"),
    "stopped": ("was stopped", ":material/stop_circle:"),
    "failed": ("failed", ":material/error:"),
    "lost": ("is lost: its process is gone", ":material/heart_broken:"),
}


@st.cache_data(max_entries=64, show_spinner=False)
def split_said(fingerprint: str, split: Split, _cells: pd.DataFrame) -> str:
    """Words on a split of a data set. Raises DataError where it cannot be split so."""
    return split_words(_cells, make_split(_cells, split), split.kind)


def dataset_line(dataset: Dataset) -> str:
    """What the data set holds, and whether it was seen or drawn."""
    cells = dataset.cells
    classes = ", ".join(f"{(cells['label'] == label).sum():,} {label_title(label)}" for label in dataset.classes)
    subjects = f"{cells['subject'].nunique():,} subjects" if dataset.has_subjects else "subjects unknown"
    mark = ":violet-badge[:material/draw: generated]" if dataset.generated else ":green-badge[:material/biotech: real]"
    return f"{mark} {len(cells):,} cells · {classes} · {subjects}"


def old_run(preset: str) -> Run | None:
    """The run that the form is filled from, until another preset is chosen."""
    try:
        run = find_run(st.session_state["from-run"])
    except (KeyError, LeukoDashError):
        return None
    return run if run.config.preset == preset else None


def chosen_configs(dataset: Dataset) -> list[RunConfig]:
    """Show the form; returns a config for each ticked backbone. Raises LeukoDashError for what cannot be."""
    asked = [name for name in st.query_params.get("backbones", "mobilenet").split(",") if name in BACKBONES]
    backbones = backbone_cards(asked)
    st.query_params["backbones"] = ",".join(backbones)
    preset = st.pills(
        "Recipe", list(PRESETS), format_func=lambda name: PRESETS[name][0].split(":")[0], key="preset",
        default="quick", required=True, bind="query-params", help="Every setting starts from the recipe's.",
    )  # fmt: skip
    first = backbones[0] if backbones else "mobilenet"
    base, before = make_config(preset, first, dataset), old_run(preset)
    start, key = {}, f"{dataset.fingerprint[:8]}-{preset}-{first}"
    if before and before.config.backbone == first:
        start, key = differences(before.config, base), f"{key}-{before.id}"
        st.caption(f":material/replay: Filled from {before.title}. Another recipe sets it back.")
    asked_for = changes(base, settings_form(base, start, key))
    return [make_config(preset, name, dataset, **asked_for) for name in backbones]


def without_weights(configs: list[RunConfig]) -> list[RunConfig]:
    """Those whose pretrained weights are not on this machine."""
    return [config for config in configs if config.weights == "imagenet" and find_weights(config.row) is None]


def forecast(dataset: Dataset, configs: list[RunConfig], runs: list[Run]) -> str:
    """What the chosen runs will take, and how they are tested, in a line."""
    missing = without_weights(configs)
    longer = [estimate(c.as_random_start() if c in missing else c, dataset, runs) for c in configs] if missing else None
    titles = [config.row.title for config in configs]
    said = estimate_words(titles, [estimate(config, dataset, runs) for config in configs], longer)
    return f"{said} · {split_said(dataset.fingerprint, configs[0].split, dataset.cells)}"


def start_row(dataset: Dataset, configs: list[RunConfig], problem: str, runs: list[Run]) -> None:
    """The Start button, and beside it what it will take, or why it cannot be pressed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        many = f"Start {len(configs)} runs" if len(configs) > 1 else "Start"
        disabled = bool(problem) or not configs
        pressed = st.button(many, type="primary", icon=":material/play_arrow:", disabled=disabled, key="start")
        hint = "" if problem else forecast(dataset, configs, runs) if configs else "Tick a network to train."
        st.caption(hint, width="stretch")
        name = {"label_visibility": "collapsed", "placeholder": "Your name (optional)", "width": 190}
        owner = st.text_input("Your name", key="owner", bind="query-params", **name)
    if problem:
        st.error(problem, icon=":material/error:")
    elif missing := without_weights(configs):
        names = ", ".join(config.row.title for config in missing)
        st.info(
            f"The ImageNet weights of {names} are not on this machine: the run tries to download them. Where that "
            "fails it trains from random weights, which takes longer and is marked “random start”.",
            icon=":material/download:",
        )
    if pressed:
        for config in configs:
            jobs.start(config, owner=owner.strip())
        st.session_state.pop("from-run", None)
        st.rerun()


runs, unreadable = all_runs()
live = live_runs(runs)
for run in runs:
    if run.id in st.session_state.get("live", ()) and run not in live:
        words, icon = STATE_WORDS.get(run.state, (run.state, None))
        st.toast(f"{run.title} {words}.", icon=icon)
st.session_state["live"] = [run.id for run in live]

for sentence in problem_folders(settings.data_root())[:3]:
    st.warning(sentence, icon=":material/folder_off:")
left, right = st.columns([2, 3], vertical_alignment="bottom")
with left:
    dataset = choose_dataset()
right.markdown(dataset_line(dataset))
configs, problem = [], ""
try:
    configs = chosen_configs(dataset)
    for config in configs:
        split_said(dataset.fingerprint, config.split, dataset.cells)
except LeukoDashError as error:
    problem = str(error)
try:
    start_row(dataset, configs, problem, runs)
except LeukoDashError as error:
    st.error(str(error), icon=":material/error:")

st.subheader("How is it learning?", divider="gray")
st.fragment(live_part, run_every="1s" if live else None)()
for sentence in unreadable:
    st.warning(sentence, icon=":material/folder_off:")
past = [run for run in runs if run not in live]
if past:
    st.subheader("Runs so far")
    past_part(past)
