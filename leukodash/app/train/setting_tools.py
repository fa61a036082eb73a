"""Tools for choosing settings: a preview of augmentation, and the learning rate finder."""

import numpy as np
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.sign_in import current_actor
from leukodash.app.train.live_chart import chart_data, live_chart
from leukodash.app.train.past_runs import act
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.images import read_image, square
from leukodash.figures.training_curves import rates_figure
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import left_words, stage_words
from leukodash.jobs.lr_search import curve, start_finder, suggestion
from leukodash.runs.access import refusal
from leukodash.runs.run_folder import LIVE, Run
from leukodash.training.augmentation import examples

CELLS, TIMES, SIDE = 3, 7, 96  # of the preview: rows, columns beside the first, pixels


def preview(config: RunConfig, dataset: Dataset) -> None:
    """Show a few cells as they will be augmented in training."""
    if config.flips == "none" and not config.pixel_augmentation:
        st.caption("Augmentation is off. Choose views or a random change to see its effect.")
        return
    picture = _preview(dataset.fingerprint, config.model_dump_json(), config, dataset)
    st.image(picture, alt="Cells, and augmented copies of them.")
    st.caption("Left: the original cell. Right: examples of how training may see it. Brightened for display.")


@st.cache_data(max_entries=16, show_spinner=False)
def _preview(fingerprint: str, settings: str, _config: RunConfig, _dataset: Dataset) -> np.ndarray:
    """Draw the preview; the cache redraws it only when the `settings` or the data set change."""
    files = [rows["file"].iloc[0] for _, rows in _dataset.cells.groupby("label")][:CELLS]
    files += list(_dataset.cells["file"].sample(CELLS, random_state=0))
    cells = [square(read_image(_dataset.root / file), SIDE) for file in files[:CELLS]]
    picture = examples(np.stack(cells), _config, TIMES)
    return np.clip(picture.astype(np.float32) * 1.4, 0, 255).astype(np.uint8)


def finder(config: RunConfig, key: str) -> None:
    """Search a learning rate for a config; `key` is the key of the widget that receives the suggestion."""
    actor = current_actor()
    if config.solved:
        return
    if words := refusal(actor, "search rates"):
        st.caption(plain(words))
        return
    run: Run | None = st.session_state.get("finder")
    if run and not run.path.is_dir():
        run = st.session_state["finder"] = None
    busy = run is not None and run.state in LIVE
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            f"Find a learning rate for {config.spec.title}", icon=":material/search:", disabled=busy, key="find-rate",
            help="A short training in which the rate rises from far too small to far too large: the loss shows where "
            "the network learns.",
        )  # fmt: skip
        if busy:
            st.button("Stop", key="stop-finder", on_click=act, args=(jobs.stop, run))
    if pressed:
        st.session_state["finder"] = start_finder(config, actor)
        st.rerun()
    if run:
        st.fragment(_search, run_every="1s" if busy else None)(run, key, busy)


def _search(run: Run, key: str, busy: bool) -> None:
    status, losses = run.status, curve(run)
    if (status["state"] in LIVE) != busy:
        st.rerun(scope="app")
    if busy:
        parts = (stage_words(status), left_words(status))
        st.progress(min(1.0, status["progress"]), plain(" · ".join(part for part in parts if part)))
    elif status["state"] in ("failed", "lost"):
        st.error(plain(status.get("error") or "The search ended without an error message."), icon=":material/error:")
    if len(losses) < 2:
        return
    rate = suggestion(losses)
    live_chart(chart_data(rates_figure(losses, rate, run.config.backbone)), "rates")
    if rate and not busy:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                f"Use {rate:g}", key="use-rate", icon=":material/check:", on_click=st.session_state.update,
                args=({key: rate},),
            )  # fmt: skip
            st.caption(f"{run.config.spec.title}: the loss falls fastest at a learning rate of {rate:g}.")
    elif not busy and status["state"] == "finished":
        st.caption("The loss did not fall at any rate: check the data and the other settings first.")
