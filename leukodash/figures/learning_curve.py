"""Learning curve: test accuracy over the number of training cells."""

import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import color, layout, symbol

HEIGHT = 380


def learning_figure(rows: pd.DataFrame) -> go.Figure:
    """Draw the accuracy with its interval over the size of the training part, one line per backbone.

    Args:
        rows: one row per run: name (str), backbone (key or None), title (of the backbone, str), train (training cells),
            accuracy (0..1), low, high (0..1, NaN if there is no interval).
    """
    figure, summaries = go.Figure(), []
    for title, mine in rows.sort_values("train").groupby("title", sort=False):
        backbone = mine["backbone"].iloc[0]
        figure.add_scatter(
            x=mine["train"],
            y=mine["accuracy"],
            name=title,
            mode="lines+markers",
            line={"color": color(backbone), "width": 2},
            marker={"symbol": symbol(backbone), "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (mine["high"] - mine["accuracy"]).fillna(0),
                "arrayminus": (mine["accuracy"] - mine["low"]).fillna(0),
                "thickness": 1.5,
            },
            text=mine["name"],
            hovertemplate="%{text}: %{y:.1%} with %{x:,} cells<extra></extra>",
        )
        first, last = mine.iloc[0], mine.iloc[-1]
        summaries.append(
            f"{title} {first['accuracy']:.1%} with {first['train']:,} cells, "
            f"{last['accuracy']:.1%} with {last['train']:,}"
        )
    return layout(
        figure,
        f"Test accuracy over the number of training cells. {'; '.join(summaries) or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "training cells", "rangemode": "tozero"},
        yaxis={"title": "test accuracy", "tickformat": ".0%"},
    )
