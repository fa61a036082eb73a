"""Two helps for choosing settings: what augmentation makes of real cells, and a search for the learning rate."""

import numpy as np
import streamlit as st

from leukodash.app.train.live_chart import chart_data, live_chart
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.images import read_image, square
from leukodash.figures.training_curves import rates_figure
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import left_words, stage_words
from leukodash.jobs.lr_search import curve, start_finder, suggestion
from leukodash.runs.run_folder import LIVE, Run
from leukodash.training.augmentation import examples

CELLS, TIMES, SIDE = 3, 7, 96  # of the preview: rows, columns beside the first, pixels


def preview(config: RunConfig, dataset: Dataset) -> None:
    """Show a few cells as the training will see them."""
    if config.flips == "none" and not config.pixel_augmentation:
        st.caption("As it stands, every cell is shown as it is. Choose views or a random change to see what they do.")
        return
    asked = config.model_dump(include={"flips", "brightness", "stain", "rotation", "seed"})
    st.image(_preview(dataset.fingerprint, asked, config, dataset), alt="Cells, and what augmentation makes of them.")
    st.caption("Left the cell as it is, then as it may come up in training. Lightened here, to be seen.")


@st.cache_data(max_entries=16, show_spinner=False)
def _preview(fingerprint: str, asked: dict, _config: RunConfig, _dataset: Dataset) -> np.ndarray:
    """Draw the preview; drawn anew only where what was `asked` for, or the data set, has changed."""
    files = [rows["file"].iloc[0] for _, rows in _dataset.cells.groupby("label")][:CELLS]
    files += list(_dataset.cells["file"].sample(CELLS, random_state=0))
    cells = [square(read_image(_dataset.root / file), SIDE) for file in files[:CELLS]]
    picture = examples(np.stack(cells), _config, TIMES)
    return np.clip(picture.astype(np.float32) * 1.4, 0, 255).astype(np.uint8)


def finder(config: RunConfig, key: str) -> None:
    """Search the learning rate of a config; `key` is that of the setting's widget, which the suggestion can go to."""
    run = st.session_state.get("finder")
    if run and not run.path.is_dir():
        run = st.session_state.pop("finder") and None
    busy = bool(run) and run.state in LIVE
    with st.container(horizontal=True, vertical_alignment="center"):
        words = f"Find a learning rate for {config.spec.title}"
        help_ = "A short training in which the rate rises from tiny to far too large: the loss tells where it learns."
        pressed = st.button(words, icon=":material/search:", help=help_, disabled=busy, key="find-rate")
        if busy:
            st.button("Stop", key="stop-finder", on_click=jobs.stop, args=(run,))
    if pressed:
        st.session_state["finder"] = start_finder(config)
        st.rerun()
    if run:
        st.fragment(_search, run_every="1s" if busy else None)(run, key, busy)


def _search(run: Run, key: str, busy: bool) -> None:
    status, found = run.status, curve(run)
    if (status["state"] in LIVE) != busy:
        st.rerun(scope="app")
    if busy:
        said = (stage_words(status), left_words(status))
        st.progress(min(1.0, status["progress"]), " · ".join(part for part in said if part))
    elif status["state"] in ("failed", "lost"):
        st.error(status.get("error") or "The search ended without saying why.", icon=":material/error:")
    if len(found) < 2:
        return
    rate = suggestion(found)
    live_chart(chart_data(rates_figure(found, rate, run.config.backbone)), "rates")
    if rate and not busy:
        with st.container(horizontal=True, vertical_alignment="center"):
            use = {"on_click": st.session_state.update, "args": ({key: rate},)}
            st.button(f"Use {rate:g}", key="use-rate", icon=":material/check:", **use)
            st.caption(f"{run.config.spec.title}: the loss falls fastest at a rate of {rate:g}.")
    elif not busy and status["state"] == "finished":
        st.caption("The loss fell at no rate: look at the data and at the other settings first.")
