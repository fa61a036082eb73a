"""Runs that were tested on different cells: each with its own count and interval, and no test."""

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.errors import LeukoDashError
from leukodash.evaluation.comparison import forest_rows
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.runs.leaderboard import leaderboard, run_names
from leukodash.runs.run_folder import Run
from leukodash.studies.questions import answer, split_rows

GREY = "Grey: the results that two papers printed, on other cells."


@st.cache_data(max_entries=4, show_spinner="Reading the predictions of both splits …")
def _split_rows(stamp: tuple) -> tuple[pd.DataFrame, str]:
    return split_rows(), answer("split")


def split_part(stamp: tuple) -> None:
    """Show the networks with both splits; `stamp` changes with their runs."""
    try:
        rows, said = _split_rows(stamp)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    counts = " and ".join(f"{n:,} cells ({split})" for split, n in rows.groupby("split")["n"].first().items())
    verdict, _, more = said.partition(". ")
    note = f"{more} The figure shows all test cells of each split: {counts}."
    _show(f"{verdict}." if verdict else "Two splits of the same cells", rows, note.strip())


def chosen_part(chosen: list[Run], note: str) -> None:
    """Show runs that the user chose; `note` says that their cells differ."""
    board = leaderboard(chosen)
    rows = board.assign(
        name=board["run"].map({run.id: name for name, run in run_names(chosen).items()}),
        low=board["accuracy_low"].fillna(board["low"]),
        high=board["accuracy_high"].fillna(board["high"]),
    )
    _show("Tested on different cells", rows, note)


def _show(verdict: str, rows: pd.DataFrame, note: str) -> None:
    """Show runs, or groups of them, that were tested on different cells, each with its own count and interval.

    Args:
        verdict: a sentence.
        rows: name, backbone, accuracy, low, high, n, subjects.
        note: why they are not tested against each other.
    """
    st.markdown(f"### {plain(verdict)}")
    st.markdown(plain(note))
    chart(forest_figure(forest_rows(rows)), "forest")
    st.caption(f"Bars are 95% intervals; they account for subjects where these are known. {GREY}")
    shown = rows[["name", "accuracy", "low", "high", "n", "subjects"]].assign(accuracy=100 * rows["accuracy"])
    shown["interval"] = [f"{low:.1%}–{high:.1%}" for low, high in zip(rows["low"], rows["high"], strict=True)]
    st.dataframe(
        shown, hide_index=True, key="table", column_order=["name", "accuracy", "interval", "n", "subjects"],
        column_config={
            "name": "Runs", "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f%%"),
            "interval": "95% interval", "n": st.column_config.NumberColumn("Test cells", format="localized"),
            "subjects": "Subjects",
        },
    )  # fmt: skip
