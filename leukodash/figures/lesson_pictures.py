"""Pictures of the lesson: what a network is handed, and what it was taught with."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from leukodash.figures.theme import OTHER_COLOR, color, layout

QUARTILES = (0, 25, 50, 75, 100)


def ranges_figure(values: Mapping[str, np.ndarray]) -> go.Figure:
    """Boxes on one axis: lowest, quartiles and highest of the numbers that a network gets for a cell.

    Args:
        values: by recipe the numbers, any shape, drawn from the top.
    """
    boxes, said = [], []
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
        said.append(f"{name} from {low:.0f} to {high:.0f}")
    return layout(
        go.Figure(boxes),
        f"Numbers that the network gets for one cell: {'; '.join(said)}.",
        height=200,
        showlegend=False,
        xaxis={"title": "number that stands for a pixel"},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
