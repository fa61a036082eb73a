"""Figures of a data set: cells per part, class and subject; and brightened images of cells.

Parts differ in color and classes in pattern, so that no information is in color alone.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import layout

# Different from all backbone colors; gray for unused cells.
PART_COLORS = {"train": "#6A5ACD", "validation": "#B39DDB", "test": "#E0A100", "unused": "#9AA0A6"}
PART_TITLES = {"train": "training", "validation": "validation", "test": "test", "unused": "not used"}
PATTERNS = ("", "/", ".", "x", "-", "+")
GAMMA = 0.55  # brightens the dark violet of a stained nucleus to the middle of the scale


def brighten(image: np.ndarray) -> np.ndarray:
    """Brighten a cell for display with a gamma curve, which keeps black and white unchanged.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.

    Returns:
        uint8 array of the same shape.
    """
    curve = np.rint(255 * (np.arange(256) / 255) ** GAMMA).astype(np.uint8)
    return curve[image]


def parts_figure(cells: pd.DataFrame, part: pd.Series, titles: dict[str, str]) -> go.Figure:
    """Draw the number of cells in each part, one bar per class.

    Args:
        cells: table with the column label.
        part: the part of each cell: "train", "validation", "test" or "unused".
        titles: displayed name by label.
    """
    counts = pd.crosstab(part, cells["label"]).to_dict("index")
    parts = [name for name in PART_COLORS if name in counts]
    figure = go.Figure()
    for number, (label, title) in enumerate(titles.items()):
        values = [counts[name][label] for name in parts]
        figure.add_bar(
            x=[PART_TITLES[name] for name in parts],
            y=values,
            name=title,
            text=[f"{value:,}" for value in values],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [PART_COLORS[name] for name in parts], "pattern": {"shape": _pattern(number)}},
            hovertemplate="%{x}: %{y:,} cells<extra>%{fullData.name}</extra>",
        )
    summary = "; ".join(
        f"{PART_TITLES[name]} {', '.join(f'{counts[name][label]:,} {title}' for label, title in titles.items())}"
        for name in parts
    )
    return layout(figure, f"Cells by part and class: {summary}.", 300, barmode="group", yaxis={"title": "cells"})


def subjects_figure(cells: pd.DataFrame, part: pd.Series, titles: dict[str, str]) -> go.Figure:
    """Draw the number of cells of each subject, stacked by part. In a split without leaks every bar has one color.

    Args:
        cells: table with the columns subject (known for all cells) and label.
        part: the part of each cell.
        titles: displayed name by label.
    """
    table = cells.assign(part=part)
    order = (
        table.groupby(["label", "subject"])
        .size()
        .sort_values(ascending=False)
        .sort_index(level=0, sort_remaining=False)
    )
    names = list(dict.fromkeys(order.index.get_level_values("subject")))
    figure = go.Figure()
    for number, (label, title) in enumerate(titles.items()):
        for name, ink in PART_COLORS.items():
            counts = table[(table["label"] == label) & (table["part"] == name)]["subject"].value_counts()
            if counts.empty:
                continue
            figure.add_bar(
                x=list(counts.index),
                y=counts.to_numpy(),
                name=f"{PART_TITLES[name]}, {title}",
                marker={"color": ink, "pattern": {"shape": _pattern(number)}},
                hovertemplate="subject %{x}: %{y:,} cells<extra>%{fullData.name}</extra>",
            )
    parts = table[table["part"] != "unused"].groupby("subject")["part"].nunique()
    divided = int((parts > 1).sum())
    return layout(
        figure,
        f"Cells of {len(names)} subjects by part. {divided or 'No'} {'subject is' if divided == 1 else 'subjects are'} "
        "in more than one part.",
        300,
        barmode="stack",
        bargap=0.15,
        xaxis={"title": "subject", "type": "category", "categoryorder": "array", "categoryarray": names},
        yaxis={"title": "cells"},
    )


def _pattern(number: int) -> str:
    return PATTERNS[number % len(PATTERNS)]
