"""The compare page's tables: the chosen runs' numbers, and what papers printed."""

import pandas as pd
import streamlit as st

from leukodash.evaluation.published import published_table
from leukodash.runs.folder import Run
from leukodash.runs.results import TestGroup, leaderboard, run_names

PERCENT = {
    "accuracy": ("Accuracy", "Share of the test cells that the run is right about."),
    "balanced_accuracy": ("Balanced accuracy", "The mean of sensitivity and specificity."),
    "sensitivity": ("Sensitivity", "Share of the blasts that were found."),
    "specificity": ("Specificity", "Share of the normal cells that were called normal."),
    "precision": ("Precision", "Share of blasts among the cells called blasts."),
    "f1": ("F1", "Harmonic mean of precision and sensitivity."),
    "f1_weighted": ("F1, weighted", "Mean of both classes' F1, weighted by their cells: the challenge's measure."),
    "f1_macro": ("F1, macro", "Plain mean of both classes' F1."),
}
NUMBERS = {
    "roc_auc": ("ROC AUC", "How often a blast gets a higher score than a normal cell; 0.5 is chance."),
    "average_precision": ("Average precision", "Area under the precision–recall curve."),
    "brier": ("Brier score", "Mean squared error of the probabilities: lower is better."),
    "calibration_error": ("Calibration error", "How far confidence lies from being right: lower is better."),
    "area_auc": ("AUC of cell area", "What cell area alone reaches on the same cells."),
}


def table_part(table: pd.DataFrame, chosen: list[Run], group: TestGroup) -> None:
    """A row an answer: its numbers at the threshold that was chosen, and what it took."""
    names = {run.id: name for name, run in run_names(chosen).items()}
    board = leaderboard(chosen)
    extra = ["parameters", "seconds", "split", "marks", "area_auc"]
    rows = table.merge(board.assign(name=board["run"].map(names))[["name", *extra]], on="name", how="left")
    rows["right"] = [f"{k:,} of {n:,}" for k, n in zip(rows["correct"], rows["n"], strict=True)]
    for key, low, high in (("interval", "accuracy_low", "accuracy_high"), ("wilson", "wilson_low", "wilson_high")):
        rows[key] = [f"{100 * a:.1f}–{100 * b:.1f} %" for a, b in zip(rows[low], rows[high], strict=True)]
    show(rows, ["rank", "name", "accuracy", "right", "interval", "wilson", "sensitivity", "specificity", "f1",
                "roc_auc", "parameters", "seconds", "split", "marks"])  # fmt: skip


def show(rows: pd.DataFrame, columns: list[str]) -> None:
    """Show these columns of a table with their titles and formats."""
    text = st.column_config.TextColumn
    number = st.column_config.NumberColumn
    config = {
        "rank": number("Rank", help="Runs that no test separates share a rank.", width="small"),
        "name": text("Run", pinned=True),
        "right": text("Right", help="Test cells that it is right about, of all."),
        "interval": text("95 % interval", help="Leaves out one subject at a time, where subjects are known."),
        "wilson": text("Wilson 95 %", help="Takes every cell for independent: too narrow."),
        "parameters": number("Parameters", format="compact"),
        "seconds": number("Training, s", format="%.0f", help="Seconds of the whole run, on the machine it ran on."),
        "split": text("Split"),
        "marks": text("Mind", help="What a reader of these numbers must know."),
    }
    config |= {key: number(title, help=words, format="percent") for key, (title, words) in PERCENT.items()}
    config |= {key: number(title, help=words, format="%.3f") for key, (title, words) in NUMBERS.items()}
    st.dataframe(rows, column_order=columns, column_config=config, hide_index=True, key="table")


def published_part() -> None:
    """What papers printed: on other cells, so that it takes no part in the comparison."""
    rows = published_table()
    rows["right"] = [
        f"{k:,} of {n:,}" if pd.notna(k) else f"of {n:,}" for k, n in zip(rows["k"], rows["n"], strict=True)
    ]
    rows["interval"] = [
        f"{100 * low:.1f}–{100 * high:.1f} %" if pd.notna(low) else "–"
        for low, high in zip(rows["low"], rows["high"], strict=True)
    ]
    rows["metric"] = rows["metric"].map({"accuracy": "accuracy", "f1_weighted": "weighted F1"})
    st.caption("None of these was measured on your test cells: they stand beside the comparison, not in it.")
    st.dataframe(
        rows,
        column_order=["paper", "year", "network", "metric", "value", "right", "interval", "split", "note"],
        column_config={
            "paper": "Source", "year": st.column_config.NumberColumn("Year", format="%d"), "network": "Network",
            "metric": "Measure", "value": st.column_config.NumberColumn("Printed", format="percent"),
            "right": "Right", "interval": "Wilson 95 %", "split": "Split", "note": "Mind",
        },
        hide_index=True,
        key="published",
    )  # fmt: skip
