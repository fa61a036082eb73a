"""Classify: "what is this cell, and what did the network look at?" Loads TensorFlow for runs and maps that need it."""

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_downloads import download_popover
from leukodash.app.classify.answer_grid import results
from leukodash.app.classify.answer_settings import Settings, decision_popover, heat_popover
from leukodash.app.classify.cell_cards import heat_legend
from leukodash.app.classify.details import details_part
from leukodash.app.classify.person_part import person_part
from leukodash.app.classify.samples import choose_samples, guess_score
from leukodash.app.classify.smear_part import cells_of_smears, smear_summary
from leukodash.app.classify.upload import own_cells, show_errors, show_upload_notes
from leukodash.app.common import (
    MAX_MODELS,
    badges,
    classifier,
    finished_runs,
    libraries_loaded,
    page_head,
    plain,
    progress_bar,
    run_label,
    unique_labels,
    without_damaged,
)
from leukodash.app.navigation import page
from leukodash.app.picture_cache import pictures_of
from leukodash.data.images import Source
from leukodash.errors import LeukoDashError
from leukodash.inference.answer_summary import summary
from leukodash.inference.classifier import Classifier, starts_without_keras
from leukodash.inference.classify_files import classify_files
from leukodash.runs.leaderboard import first_run, run_names
from leukodash.runs.run_folder import Run


def choose_runs() -> list[Run]:
    """Let the user choose finished runs, stored in the URL; without any, link to the train page."""
    runs = {run.id: run for run in finished_runs() if run.weights.is_file()}
    asked = st.query_params.get("runs", st.session_state.get("last-runs", ""))
    if not runs:
        without_damaged([], asked)
        st.info("No finished run yet. Train one first: the demo takes about two minutes.", icon=":material/biotech:")
        st.page_link(page("train"), label="Start a run", icon=":material/arrow_forward:")
        st.stop()
    start = [run_id for run_id in asked.split(",") if run_id in runs][:MAX_MODELS]
    start = start or [first_run(list(runs.values())).id]
    owners = {run_id: f" · {run.about['owner']}" if run.about["owner"] else "" for run_id, run in runs.items()}
    labels = {run_id: run_label(run) + owners[run_id] for run_id, run in runs.items()}
    labels = unique_labels(labels, lambda run_id: run_id[-4:])
    with st.popover("Networks", icon=":material/hub:"):
        chosen = st.multiselect(
            f"Finished runs (up to {MAX_MODELS})", list(runs), start, key="chosen-runs", max_selections=MAX_MODELS,
            format_func=labels.__getitem__,
        )  # fmt: skip
    st.query_params["runs"] = st.session_state["last-runs"] = ",".join(chosen)
    return without_damaged([runs[run_id] for run_id in chosen], asked)


def show_badges(runs: list[Run]) -> None:
    """Show the names of the chosen runs with their badges; runs with the same badges share them."""
    marks: dict[str, list[str]] = {}
    for title, run in run_names(runs).items():
        marks.setdefault(badges(run), []).append(f"**{plain(title)}**")
    st.markdown("  \n".join(f":small[{', '.join(titles)} {badge}]" for badge, titles in marks.items()), width="content")


def load_runs(runs: list[Run]) -> list[Classifier]:
    """Load the runs, showing an error for each that fails; stops the page if all fail."""
    loaded = []
    slow = "" if all(map(starts_without_keras, runs)) else " (the first time also TensorFlow, about 10 seconds)"
    with st.spinner(f"Loading the networks{slow} …", show_time=True):
        for run in runs:
            try:
                loaded.append(classifier(str(run.path)))
            except LeukoDashError as error:
                st.error(plain(str(error)), icon=":material/error:")
    if not loaded:
        st.stop()
    libraries_loaded("networks")
    return loaded


def classify(
    loaded: list[Classifier], files: list[Source], chosen: Settings
) -> tuple[pd.DataFrame, list[np.ndarray | None]]:
    """Classify with all runs; shows a progress bar if it takes longer."""
    waiting = [each for each in loaded if each.waits_for_keras(chosen.method, chosen.layers.get(each.run.id))]
    if waiting:
        with st.spinner("This map needs gradients: loading TensorFlow, about 10 seconds once …", show_time=True):
            for each in waiting:
                each.load_keras()
    bar = st.empty()
    table, maps = classify_files(
        loaded, files, chosen.method, pictures_of, progress_bar(bar), target=chosen.target, layers=chosen.layers,
        rule=chosen.rule,
    )  # fmt: skip
    bar.empty()
    return table, maps


def show() -> None:
    """Show the page."""
    page_head("Classify", "Click a cell: a network names its class, and a heat map shows what speaks for that class.")
    wall, row = st.container(), st.container(horizontal=True, vertical_alignment="center", gap="small")
    of_samples = row.container(horizontal=True, vertical_alignment="center", gap="small", width="content")
    with row:
        runs = choose_runs()
    if not runs:
        st.info("Choose a network under *Networks*.", icon=":material/hub:")
        return
    samples = choose_samples(runs, wall, of_samples)
    own, unpacked = own_cells(row)
    show_upload_notes(unpacked)
    files, truth, smears = cells_of_smears([*samples.files, *own], samples.truth)
    if not files:
        show_badges(runs)
        return
    loaded = load_runs(runs)
    runs = [classifier.run for classifier in loaded]
    names = {run.id: title for title, run in run_names(runs).items()}
    answers, legend = st.container(), st.container(horizontal=True, vertical_alignment="center")
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    with row:
        chosen = decision_popover(runs, names, heat_popover(loaded, names))
    with answers:
        table, maps = classify(loaded, files, chosen)
        show_errors(list(table.loc[table["error"] != "", "error"]))
        if (table["error"] != "").all():
            return
        st.markdown(f"**{plain(summary(table, truth, names))}**")
        guess_score(table, samples, names)
        if smears:
            smear_summary(table, smears)
        person_part(table[~table["position"].isin(truth)], runs, smears, names, chosen.rule)
        st.fragment(results)(files, table, maps, truth, names, chosen)
    with legend:
        heat_legend(chosen, table, names)
        show_badges(runs)
    with row:
        download_popover(files, table, maps, truth, names, chosen.style)
    details_part(loaded, files, table, maps, names, chosen)
