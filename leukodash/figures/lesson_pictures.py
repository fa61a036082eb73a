"""Figures of the lesson: the sizes of cells, and the numbers that a network receives for a cell."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, OTHER_COLOR, color, layout

QUARTILES = (0, 25, 50, 75, 100)


def ranges_figure(values: Mapping[str, np.ndarray]) -> go.Figure:
    """Draw a box plot (minimum, quartiles, maximum) of the network's input values for a cell.

    Args:
        values: array of any shape by recipe, drawn from top to bottom.
    """
    boxes: list[go.Box] = []
    summaries = []
    for name, numbers in values.items():
        low, first, middle, third, high = np.percentile(numbers, QUARTILES)
        boxes.append(
            go.Box(
                name=name,
                y=[name],
                orientation="h",
                lowerfence=[low],
                q1=[first],
                median=[middle],
                q3=[third],
                upperfence=[high],
                line_color=color("resnet50") if not boxes else OTHER_COLOR,
                hoverinfo="x",
            )
        )
        summaries.append(f"{name} from {low:.0f} to {high:.0f}")
    return layout(
        go.Figure(boxes),
        f"Input values of the network for one cell: {'; '.join(summaries)}.",
        height=200,
        showlegend=False,
        xaxis={"title": "input value of a pixel"},
        yaxis={"autorange": "reversed", "showgrid": False},
    )


def areas_figure(share: pd.Series, label: pd.Series, limit: float, titles: Mapping[str, str]) -> go.Figure:
    """Draw the size of each cell as a dot, a row for each class, and the limit between them.

    Args:
        share: area of each cell as a share of its picture, 0 to 1.
        label: class of each cell.
        limit: share at which the line stands.
        titles: displayed name by label, from top to bottom.
    """
    figure = go.Figure()
    for (name, title), ink, sign in zip(titles.items(), ("#D55E00", "#0072B2"), ("diamond", "circle"), strict=False):
        sizes = share[label == name]
        figure.add_scatter(
            x=sizes,
            y=[title] * len(sizes),
            name=title,
            mode="markers",
            marker={"color": ink, "symbol": sign, "size": 11, "opacity": 0.6},
            hovertemplate="%{x:.1%} of the picture<extra></extra>",
        )
    figure.add_vline(limit, line={"color": FAINT, "width": 2})
    middle = "; ".join(f"{title} {share[label == name].median():.0%}" for name, title in titles.items())
    return layout(
        figure,
        f"Sizes of {len(share)} cells, median share of the picture: {middle}. The limit stands at {limit:.0%}.",
        height=200,
        showlegend=False,
        xaxis={"title": "share of the picture that the cell fills", "tickformat": ".0%"},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
