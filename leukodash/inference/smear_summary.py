"""What the cells of a smear are together: how many white cells, how many of each class."""

from collections.abc import Sequence

import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.inference.decision import AVERAGE

CELL = ", cell "  # between a smear's name and the number of a cell of it
UNLIKE = "unlike the training cells"


def cell_name(smear: str, number: int) -> str:
    """Name a cell of a smear, as tables and files show it."""
    return f"{smear}{CELL}{number}"


def count_cells(table: pd.DataFrame, smears: Sequence[str]) -> pd.DataFrame:
    """Count the cells of each smear by class; of several runs, their average speaks.

    Args:
        table: from `files.classify_files`, cells of smears named by `cell_name`.
        smears: their names.

    Returns:
        A row a smear: ``smear``, ``white cells``, a column a class by its title, and `UNLIKE`, whose cells are in no
        class.
    """
    together = table["run"] == AVERAGE
    said = table[together if together.any() else table["error"] == ""]
    of, odd = said["file"].str.rpartition(CELL)[0], said["novel"].astype(bool)
    columns = {"white cells": of, **{
        label_title(label): of[(said["class"] == label) & ~odd]
        for label in (column.removeprefix("p_") for column in table if column.startswith("p_"))
    }, UNLIKE: of[odd]}  # fmt: skip
    counts = {title: names.value_counts().reindex(smears, fill_value=0).to_list() for title, names in columns.items()}
    return pd.DataFrame({"smear": list(smears), **counts})


def slide_words(counts: pd.DataFrame) -> str:
    """Say a slide's counts in a line, for example ``"3 white cells: 2 ALL blast · 1 normal"``; counts: of one row."""
    _, cells, *parts = counts.iloc[0].items()
    said = " · ".join(f"{count:,} {title}" for title, count in parts if count)
    return f"{cells[1]:,} white cell{'' if cells[1] == 1 else 's'}{': ' * bool(said)}{said}"
