"""Counts of a smear's cells: how many white cells, and how many of each class."""

from collections.abc import Sequence

import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.inference.decision import AVERAGE

CELL = ", cell "  # between the name of a smear and the number of one of its cells
UNLIKE = "unlike the training cells"


def cell_name(smear: str, number: int) -> str:
    """Return the name of a smear's cell, as tables and files show it."""
    return f"{smear}{CELL}{number}"


def count_cells(table: pd.DataFrame, smears: Sequence[str]) -> pd.DataFrame:
    """Count the cells of each smear by class; with several runs, by their average.

    Args:
        table: from `classify_files.classify_files`; cells of smears are named by `cell_name`.

    Returns:
        One row per smear: ``smear``, ``white cells``, one column per class title, and `UNLIKE`, whose cells are not in
        any class.
    """
    average = table["run"] == AVERAGE
    answers = table[average if average.any() else table["error"] == ""]
    smear, odd = answers["file"].str.rpartition(CELL)[0], answers["novel"].astype(bool)
    labels = [str(column).removeprefix("p_") for column in table if str(column).startswith("p_")]
    columns = {label_title(label): smear[(answers["class"] == label) & ~odd] for label in labels}
    counted = {"white cells": smear, **columns, UNLIKE: smear[odd]}
    counts = {title: names.value_counts().reindex(list(smears), fill_value=0) for title, names in counted.items()}
    return pd.DataFrame(counts).rename_axis("smear").reset_index()


def smear_words(counts: pd.DataFrame) -> str:
    """Return the counts of one smear, a table of one row, as ``"3 white cells: 2 ALL blast · 1 normal"``."""
    _, cells, *parts = counts.iloc[0].items()
    classes = " · ".join(f"{count:,} {title}" for title, count in parts if count)
    return f"{cells[1]:,} white cell{'' if cells[1] == 1 else 's'}{': ' * bool(classes)}{classes}"
