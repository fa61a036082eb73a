"""Classify: "what is this cell, and what did the network look at?" TensorFlow is loaded when there is a cell to see."""

import time

import numpy as np
import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.errors import LeukoDashError
from leukodash.explain.cam import METHODS
from leukodash.explain.samples import draw, unseen_cells
from leukodash.explain.words import summary
from leukodash.runs.estimate import duration_words
from leukodash.runs.folder import Run
from leukodash.runs.progress import curve_names, readable
from pages.classify_cards import Source, results
from pages.shared import MAX_MODELS, badges, classifier, finished_runs, plain, run_label, through_the_router

through_the_router()

TYPES = ["bmp", "png", "jpg", "jpeg", "tif", "tiff", "webp"]
FAULTS = 5  # sentences on bad files before the others wait behind a click
SAMPLES = (4, 8, 16, 32)


@st.cache_resource
def answers() -> dict:
    """Return what was answered before, for whoever asks again."""
    return {}


def choose_runs() -> list[Run]:
    """Let the user choose finished runs, remembered in the page's address; without any, lead to training."""
    runs = {run.id: run for run in readable(finished_runs())[0]}
    if not runs:
        st.info("No finished run yet. Train one first: the demo takes about two minutes.", icon=":material/biotech:")
        st.page_link("pages/train.py", label="Start a run", icon=":material/arrow_forward:")
        st.stop()
    asked = st.query_params.get("runs", st.session_state.get("last-runs", "")).split(",")
    start = [run_id for run_id in asked if run_id in runs][:MAX_MODELS] or list(runs)[:1]
    chosen = st.multiselect(
        f"Finished runs (up to {MAX_MODELS})", list(runs), start, key="chosen-runs", max_selections=MAX_MODELS,
        format_func=lambda run_id: run_label(runs[run_id]),
    )  # fmt: skip
    st.query_params["runs"] = st.session_state["last-runs"] = ",".join(chosen)
    for title, run in curve_names([runs[run_id] for run_id in chosen]).items():
        st.markdown(f":small[**{plain(title)}** {badges(run)}]")
    return [runs[run_id] for run_id in chosen]


def choose_cells(runs: list[Run]) -> tuple[list[Source], dict[int, str]]:
    """Let the user upload images and draw samples; returns the files, and by position the labels that are known."""
    most, megabytes = (50, 10) if settings.public() else (1000, settings.MAX_UPLOAD_MB)
    left, right = st.columns(2, gap="large")
    uploads = left.file_uploader(
        "Your own cells, one an image", TYPES, accept_multiple_files=True, max_upload_size=megabytes, key="uploads"
    )
    if len(uploads) > most:
        left.warning(f"{len(uploads):,} files came and {most} are taken at once: the rest is left out.")
    cells = unseen_cells(runs)
    seed = st.session_state.get("draw", 0)
    with right, st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.pills(
            "Or draw cells that these runs were tested on and never learnt from", SAMPLES, key="samples",
            bind="query-params", disabled=cells.empty,
        )  # fmt: skip
        if count and st.button("Draw others", icon=":material/casino:"):
            seed = st.session_state["draw"] = seed + 1
    if cells.empty:
        right.caption("These runs share no test cells on this machine. Choose one run, or upload cells.")
    drawn = draw(cells, count or 0, seed)
    files: list[Source] = [*drawn["path"], *((file.name, file.getvalue()) for file in uploads[:most])]
    return files, dict(enumerate(drawn["label"]))


def classify(runs: list[Run], files: list[Source], method: str) -> tuple[pd.DataFrame, list[np.ndarray | None]]:
    """Classify with every run that can be loaded; says which cannot, and stops the page where none can."""
    loaded = []
    with st.spinner("Loading the networks; the first time, TensorFlow too (about 10 seconds) …", show_time=True):
        for run in runs:
            try:
                loaded.append(classifier(str(run.path)))
            except LeukoDashError as error:
                st.error(plain(str(error)), icon=":material/error:")
        from leukodash.explain.predict import classify_files
    if not loaded:
        st.stop()
    bar, since = st.empty(), time.monotonic()

    def progress(fraction: float, words: str) -> None:
        took = time.monotonic() - since
        if took > 0.5:  # what is known already comes at once, without a bar that flickers
            left = f" · about {duration_words(took / fraction - took)} left" if fraction else ""
            bar.progress(fraction, plain(words) + left)

    table, maps = classify_files(loaded, files, method, answers(), progress)
    bar.empty()
    return table, maps


runs = choose_runs()
files, truth = choose_cells(runs) if runs else ([], {})
if files:
    method = st.segmented_control(
        "Heat map", list(METHODS), default="gradcam", required=True, key="method", bind="query-params",
        format_func=lambda key: METHODS[key].title,
        help="  \n".join(f"**{m.title}** {m.one_line} ({m.paper})." for m in METHODS.values()),
    )  # fmt: skip
    table, maps = classify(runs, files, method)
    faults = [plain(sentence) for sentence in table.loc[table["error"] != "", "error"]]
    for sentence in faults[:FAULTS]:
        st.error(sentence, icon=":material/broken_image:")
    if faults[FAULTS:]:
        with st.expander(f"{len(faults) - FAULTS:,} more files could not be read"):
            st.markdown("  \n".join(faults[FAULTS:]))
    if (table["error"] == "").any():
        names = {run.id: title for title, run in curve_names(runs).items()}
        st.markdown(f"**{plain(summary(table, truth, names))}**")
        st.fragment(results)(files, table, maps, truth, names)
        saved = table.assign(truth=table["position"].map(truth)).drop(columns="position")
        csv = saved.to_csv(index=False)
        st.download_button("Table (CSV)", csv, "classified.csv", "text/csv", icon=":material/download:")
elif runs:
    st.caption("Drop cells here or draw some: each comes back with its class, and a map of where the evidence lies.")
