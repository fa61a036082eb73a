"""The Start button of the train page: estimated time of the chosen runs, or why they cannot start."""

import pandas as pd
import streamlit as st

from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.split import Split, describe_split, make_split
from leukodash.jobs import launch as jobs
from leukodash.jobs.estimate import estimate_together, estimate_words
from leukodash.jobs.sweep import Planned
from leukodash.models.weights import find_weights
from leukodash.runs.run_folder import Run


@st.cache_data(max_entries=64, show_spinner=False)
def split_summary(fingerprint: str, split: Split, _cells: pd.DataFrame) -> str:
    """Describe a split of a data set. Raises DataError if the split is impossible."""
    return describe_split(_cells, make_split(_cells, split), split.kind)


def without_weights(configs: list[RunConfig]) -> list[RunConfig]:
    """Return the configs whose pretrained weights are not on this machine."""
    return [config for config in configs if config.weights == "imagenet" and find_weights(config.spec) is None]


def forecast(dataset: Dataset, configs: list[RunConfig], runs: list[Run]) -> str:
    """Return a line on the estimated time of the chosen runs and on their split."""
    missing = without_weights(configs)
    random_start = [config.as_random_start() if config in missing else config for config in configs]
    longer = estimate_together(random_start, dataset, runs) if missing else None
    words = estimate_words([config.spec.title for config in configs], estimate_together(configs, dataset, runs), longer)
    return f"{words} · {split_summary(dataset.fingerprint, configs[0].split, dataset.cells)}"


def start_row(dataset: Dataset, planned: list[Planned], problem: str, runs: list[Run]) -> None:
    """Show the Start button, and beside it the estimated time, or why it is disabled."""
    configs = [run.config for run in planned]
    with st.container(horizontal=True, vertical_alignment="center"):
        label = f"Start {len(configs)} runs" if len(configs) > 1 else "Start"
        disabled = bool(problem) or not configs
        pressed = st.button(label, type="primary", icon=":material/play_arrow:", disabled=disabled, key="start")
        hint = "" if problem else forecast(dataset, configs, runs) if configs else "Select a network to train."
        st.caption(hint, width="stretch")
        owner = st.text_input(
            "Your name", key="owner", bind="query-params", label_visibility="collapsed",
            placeholder="Your name (optional)", width=190,
        )  # fmt: skip
    if problem:
        st.error(problem, icon=":material/error:")
    elif missing := without_weights(configs):
        names = ", ".join(dict.fromkeys(config.spec.title for config in missing))
        st.info(
            f"The ImageNet weights of {names} are not on this machine: the run tries to download them. If that fails, "
            "it trains from random weights, which takes longer and is marked “random start”.",
            icon=":material/download:",
        )
    if pressed:
        for run in planned:
            jobs.start(run.config, title=run.title, owner=owner.strip())
        st.session_state.pop("from-run", None)
        st.rerun()
