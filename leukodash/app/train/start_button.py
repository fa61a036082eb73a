"""The Start button of the train page: estimated time of the chosen runs, the queue, or why they cannot start."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash import settings
from leukodash.app.common import plain
from leukodash.app.sign_in import current_actor
from leukodash.app.sign_in_form import refused
from leukodash.app.train.live_runs import turns
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.split import Split, describe_split, make_split
from leukodash.jobs import launch as jobs
from leukodash.jobs.estimate import (
    Estimate,
    duration_words,
    estimate,
    estimate_together,
    estimate_words,
    estimated_seconds,
    memory_problem,
    time_refusal,
)
from leukodash.jobs.sweep import Planned
from leukodash.models.weights import find_weights
from leukodash.runs.access import (
    MAX_EPOCHS,
    MAX_KEPT_OWN,
    MAX_SECONDS,
    MAX_WAITING_OWN,
    Actor,
    refusal,
    room_refusal,
    settings_refusal,
)
from leukodash.runs.run_folder import Run

LONG_SECONDS = 600.0  # until results, from which on a quicker way is proposed


@st.cache_data(max_entries=64, show_spinner=False)
def split_summary(fingerprint: str, split: Split, _cells: pd.DataFrame) -> str:
    """Describe a split of a data set. Raises DataError if the split is impossible."""
    return describe_split(_cells, make_split(_cells, split), split.kind)


def without_weights(configs: list[RunConfig]) -> list[RunConfig]:
    """Return the configs whose pretrained weights are not on this machine."""
    return [config for config in configs if config.weights == "imagenet" and find_weights(config.spec) is None]


def forecast(dataset: Dataset, configs: list[RunConfig], estimates: list[Estimate], runs: list[Run]) -> str:
    """Return a line on the estimated time of the chosen runs and on their split."""
    missing = without_weights(configs)
    random_start = [config.as_random_start() if config in missing else config for config in configs]
    longer = estimate_together(random_start, dataset, runs) if missing else None
    words = estimate_words([config.spec.title for config in configs], estimates, longer)
    return f"{words} · {split_summary(dataset.fingerprint, configs[0].split, dataset.cells)}"


def wait_words(dataset: Dataset, estimates: list[Estimate], runs: list[Run], live: list[Run]) -> str:
    """Say how long the queue is, and what would be quicker where results are far away; "" where they are not."""
    wait = turns(live, runs)[1] if live else 0.0
    took = estimated_seconds(estimates)
    quick = estimate(make_config("quick", "mobilenet", dataset), dataset, runs).seconds
    come = f"{len(live)} runs come" if len(live) > 1 else "One run comes"
    words = [f"{come} first: yours starts in about {duration_words(wait)}."] if wait > 1 else []
    if wait + took > LONG_SECONDS and took > 2 * quick:
        words.append(
            f"Results take about {duration_words(wait + took)}. Quicker: MobileNet alone with the recipe Quick, which "
            f"trains for about {duration_words(quick)}."
        )
    return " ".join(words)


def start_refusal(actor: Actor, configs: list[RunConfig], estimates: list[Estimate]) -> str:
    """Return why someone may not start these runs here and now, as a sentence; "" if they may."""
    if words := refusal(actor, "train") or next(filter(None, (settings_refusal(actor, each) for each in configs)), ""):
        return words
    return room_refusal(actor, len(configs)) or time_refusal(actor, estimates)


def start_button(
    slot: DeltaGenerator, dataset: Dataset, planned: list[Planned], problem: str, runs: list[Run], live: list[Run]
) -> None:
    """Show the Start button in `slot`, and below the form the estimated time, or why it is disabled."""
    actor, configs = current_actor(), [run.config for run in planned]
    label = f"Start {len(configs)} runs" if len(configs) > 1 else "Start"
    estimates = estimate_together(configs, dataset, runs) if configs and not problem else []
    words = start_refusal(actor, configs, estimates) if estimates else ""
    if estimates and not words:
        problem = memory_problem(estimates)
    disabled = bool(problem or words) or not configs
    pressed = slot.button(label, type="primary", icon=":material/play_arrow:", disabled=disabled, key="start")
    if problem:
        st.error(plain(problem), icon=":material/error:")
    elif words:
        refused(words, "start")
    elif not configs:
        st.caption("Select a network to train.")
    else:
        st.markdown(f":small[{plain(forecast(dataset, configs, estimates, runs))}]")
        if words := wait_words(dataset, estimates, runs, live):
            st.markdown(f":material/hourglass_top: {words}")
        if missing := without_weights(configs):
            names = ", ".join(dict.fromkeys(config.spec.title for config in missing))
            st.info(
                f"The ImageNet weights of {names} are not on this machine: the run tries to download them. If that "
                "fails, it trains from random weights, which takes longer and is marked “random start”.",
                icon=":material/download:",
            )
    if actor.role == "visitor":
        st.caption(
            f"A public demo: you can have {MAX_WAITING_OWN} runs at a time, of up to {MAX_EPOCHS} epochs and "
            f"{duration_words(MAX_SECONDS)}. Only you see them. The last {MAX_KEPT_OWN} are kept for a while."
        )
    if pressed:
        owner = "" if settings.shared() else st.session_state["owner"]
        started = jobs.start_together(planned, actor, owner=owner)
        names = plain(started[0].title) if len(started) == 1 else f"{len(started)} runs"
        st.session_state["toast"] = f"Started: {names}. The curves appear on this page."
        st.session_state.pop("address-problems", None)
        st.rerun()
