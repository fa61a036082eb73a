"""What the answers of several runs say together: where they disagree, in which order they are shown, and a sentence.

Light: no Keras. Tables are those of `predict.classify_files`.
"""

from collections.abc import Mapping

import pandas as pd

from leukodash.data.dataset import label_title


def disagreements(table: pd.DataFrame) -> set[int]:
    """Return the positions of the images that not all runs put into the same class."""
    kinds = table[table["error"] == ""].groupby("position")["class"].nunique()
    return {int(position) for position in kinds.index[kinds > 1]}


def in_order(table: pd.DataFrame) -> list[int]:
    """Return the positions of the classified images, those where runs disagree first."""
    apart = disagreements(table)
    positions = table.loc[table["error"] == "", "position"].unique()
    return sorted((int(position) for position in positions), key=lambda position: (position not in apart, position))


def summary(table: pd.DataFrame, truth: Mapping[int, str], titles: Mapping[str, str]) -> str:
    """Say in a sentence or two what was found.

    Args:
        table: with at least one classified image.
        truth: label by position, where it is known.
        titles: words for each run, by its id.
    """
    fine = table[table["error"] == ""]
    cells, runs = fine["position"].nunique(), fine["run"].nunique()
    if runs == 1:
        counts = fine["class"].value_counts()
        said = [f"{_cells(cells)}: {', '.join(f'{n} {label_title(label)}' for label, n in counts.items())}."]
    else:
        apart = len(disagreements(table))
        rest = cells - apart
        if apart == 0:
            said = [f"{_cells(cells)}: all {runs} runs agree on {'it' if cells == 1 else 'each'}."]
        elif rest == 0:
            said = [f"{_cells(cells)}: the {runs} runs disagree on {'it' if cells == 1 else 'each'}."]
        else:
            said = [f"{_cells(cells)}: the {runs} runs disagree on {apart}, shown first, and agree on {rest}."]
    known = fine[fine["position"].isin(truth)]
    if len(known):
        right = known["class"] == known["position"].map(truth)
        tested = known["position"].nunique()
        counts = right.groupby(known["run"], sort=False).sum()
        shares = ", ".join(f"{titles[run]} {count}" for run, count in counts.items())
        cells = _cells(tested, "test cell")
        said.append(f"Of {cells}, right: {shares}." if runs > 1 else f"{counts.iloc[0]} of {cells} right.")
    return " ".join(said)


def _cells(count: int, word: str = "cell") -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
