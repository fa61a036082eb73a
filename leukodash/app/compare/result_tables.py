"""Tables of the compare page: the chosen runs, and means over runs that differ only in their seeds."""

from typing import Any

import pandas as pd
import streamlit as st

from leukodash.app.common import choose_one
from leukodash.csv_text import csv_text
from leukodash.runs.leaderboard import TestGroup, fold_seeds, leaderboard, run_names
from leukodash.runs.run_folder import Run

PERCENT = {
    "accuracy": ("Accuracy", "Share of the test cells that are classified correctly."),
    "balanced_accuracy": ("Balanced accuracy", "The mean of sensitivity and specificity."),
    "sensitivity": ("Sensitivity", "Share of the blasts that are classified as blasts."),
    "specificity": ("Specificity", "Share of the normal cells that are classified as normal."),
    "precision": ("Precision", "Share of blasts among the cells classified as blasts."),
    "f1": ("F1", "Harmonic mean of precision and sensitivity."),
    "f1_weighted": ("F1, weighted", "Mean of the classes' F1, weighted by their cells: the C-NMC challenge's measure."),
    "f1_macro": ("F1, macro", "Unweighted mean of the classes' F1."),
    "subject_accuracy": ("By person", "Mean of the subjects' accuracies: each counts the same. With its 95% interval."),
    "subject_balanced_accuracy": (
        "Balanced, by person",
        "Mean of the subjects' accuracies in each class, and of both classes.",
    ),
    "spread": ("Spread", "Standard deviation of the accuracy over the seeds."),
    "lowest": ("Lowest", "The worst seed's accuracy."),
    "highest": ("Highest", "The best seed's accuracy."),
}
PLAIN = {
    "roc_auc": ("ROC AUC", "How often a blast gets a higher score than a normal cell; 0.5 is chance.", "%.3f"),
    "average_precision": ("Average precision", "Area under the precision–recall curve.", "%.3f"),
    "brier": ("Brier score", "Mean squared error of the probabilities: lower is better.", "%.3f"),
    "calibration_error": ("Calibration error", "Mean gap between confidence and accuracy: lower is better.", "%.3f"),
    "stratified_auc": (
        "AUC, equal size",
        "ROC AUC among cells of equal area, with its 95% interval; 0.5 is chance.",
        "%.3f",
    ),
    "area_auc": ("AUC of cell area", "ROC AUC of cell area alone on the same cells.", "%.3f"),
    "threshold": ("Threshold", "Cells with at least this probability are classified as positive.", "%.3f"),
    "rank": ("Rank", "One plus the number of runs that are significantly better, by the measure of the tests.", "%d"),
    "seeds": ("Seeds", "Runs that differ only in their seed.", "%d"),
    "parameters": ("Parameters", "Parameters of the whole network.", "compact"),
    "trained_parameters": ("Trained", "Trained parameters.", "compact"),
    "megabytes": ("Size, MB", "Size of the file with the trained layers.", "%.2f"),
    "seconds": ("Training, s", "Duration of the whole run on its machine.", "%.0f"),
    "ms_per_image": ("ms per image", "Time to classify one cell on its machine.", "%.1f"),
    "images_per_second": ("Images per second", "Classification speed on its machine.", "%.0f"),
}
WORDS = {
    "right": ("Correct", "Correctly classified test cells, of all test cells."),
    "interval": ("95% interval", "Of the accuracy. From a jackknife over subjects where these are known."),
    "wilson": ("Wilson 95%", "Of the accuracy. Assumes independent cells, so it is too narrow."),
    "backbone": ("Backbone", "The pretrained network."),
    "owner": ("Owner", "Who trained it."),
    "preset": ("Recipe", "The preset that the settings are based on."),
    "split": ("Split", "How the cells were split."),
    "marks": ("Limitations", "Limitations of these numbers."),
}
USUAL = "accuracy interval right subject_accuracy sensitivity specificity roc_auc stratified_auc marks".split()
WITH_INTERVAL = ("subject_accuracy", "stratified_auc")  # always
FOLDED = "seeds accuracy spread lowest highest roc_auc".split()
TITLES = {key: texts[0] for table in (PERCENT, PLAIN, WORDS) for key, texts in table.items()}
VIEWS = {"chosen": "These runs", "seeds": "Seeds together"}


@st.cache_data(max_entries=32, show_spinner=False)
def _folded(ids: list[str], stamp: tuple, _group: TestGroup) -> pd.DataFrame:
    return fold_seeds(_group.runs)


def table_part(table: pd.DataFrame, chosen: list[Run], group: TestGroup, stamp: tuple) -> None:
    """Show a table of the chosen runs, or of all recipes of the group with several seeds, and a download.

    `stamp` changes with the results or the title of a run of the group.
    """
    folded = _folded([str(run.path) for run in group.runs], stamp, group)
    folded = folded[folded["seeds"] > 1]
    with st.container(horizontal=True, vertical_alignment="center"):
        view = "chosen"
        if len(folded):
            view = choose_one("Table of", VIEWS, "table-of", bind="query-params", label_visibility="collapsed")
        more = st.toggle("More columns", key="more", help="All measures with their intervals, training, and speed.")
        slot = st.empty()
    if view == "chosen":
        names = {run.id: name for name, run in run_names(chosen).items()}
        board = leaderboard(chosen)
        others = board[[column for column in board.columns if column not in table.columns]]
        rows, usual = table.merge(others.assign(name=others["run"].map(names)), on="name", how="left"), USUAL
    else:
        rows, usual = folded, FOLDED
    slot.download_button(
        "CSV", csv_text(rows.drop(columns="confusion", errors="ignore")), "comparison.csv", "text/csv",
        icon=":material/download:", on_click="ignore", key="csv",
    )  # fmt: skip
    _show(_formatted(rows, more), [*usual, *(key for key in TITLES if more and key not in usual)])
    if view != "chosen":
        st.caption("All runs on these cells, for the likeliest class, whatever the threshold.")


def _formatted(rows: pd.DataFrame, intervals: bool) -> pd.DataFrame:
    """Add counts, intervals and percentages as text; with `intervals`, format every measure with its interval."""
    shown = rows.copy()
    if "correct" in rows:
        shown["right"] = [f"{k:,} of {n:,}" for k, n in zip(rows["correct"], rows["n"], strict=True)]
        shown["interval"] = _between(rows["accuracy_low"], rows["accuracy_high"], "{:.1%}")
        shown["wilson"] = _between(rows["wilson_low"], rows["wilson_high"], "{:.1%}")
    for key in (*PERCENT, *PLAIN):
        form = "{:.1%}" if key in PERCENT else "{:.3f}"
        if key in rows and key in PERCENT:
            shown[key] = 100 * rows[key].astype(float)
        if (intervals or key in WITH_INTERVAL) and f"{key}_low" in rows and key in rows:
            between = _between(rows[f"{key}_low"], rows[f"{key}_high"], form)
            values = [form.format(value) if pd.notna(value) else "" for value in rows[key].astype(float)]
            shown[key] = [f"{value} ({ends})" if ends else value for value, ends in zip(values, between, strict=True)]
    return shown


def _between(low: pd.Series, high: pd.Series, form: str) -> list[str]:
    return [f"{form.format(a)}–{form.format(b)}" if pd.notna(a) else "" for a, b in zip(low, high, strict=True)]


def _show(rows: pd.DataFrame, columns: list[str]) -> None:
    """Show those of these columns that have values, with their titles and formats."""
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    config: dict[str, Any] = {"name": text("Run", pinned=True)}
    config |= {key: text(title, help=words) for key, (title, words) in WORDS.items()}
    for key, (title, words) in PERCENT.items():
        config[key] = number(title, help=words, format="%.1f%%")
    for key, (title, words, format_) in PLAIN.items():
        config[key] = number(title, help=words, format=format_)
    for key in (*PERCENT, *PLAIN):
        if key in rows and not pd.api.types.is_numeric_dtype(rows[key]):
            config[key] = text(config[key]["label"], help=config[key]["help"])
    order = ["name", *(key for key in columns if key in rows and rows[key].replace("", None).notna().any())]
    st.dataframe(rows, column_order=order, column_config=config, hide_index=True, key="table", placeholder="–")
