"""Figures of the lesson: the numbers that a network receives for a cell."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from leukodash.figures.theme import OTHER_COLOR, color, layout

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
