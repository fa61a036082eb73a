"""What more cells bring: test accuracy over how many cells a run learnt from."""

import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import color, layout, symbol

HEIGHT = 380


def learning_figure(rows: pd.DataFrame) -> go.Figure:
    """Accuracy with its interval over the size of the training part, a line a backbone.

    Args:
        rows: a row a run: name (str), backbone (key or None), title (the backbone's, str), train (training cells),
            accuracy (0..1), low, high (0..1, NaN where there is no interval).
    """
    figure, said = go.Figure(), []
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
            hovertemplate="%{text}: %{y:.1%} after %{x:,} cells<extra></extra>",
        )
        first, last = mine.iloc[0], mine.iloc[-1]
        said.append(
            f"{title} {first['accuracy']:.1%} after {first['train']:,} cells, "
            f"{last['accuracy']:.1%} after {last['train']:,}"
        )
    return layout(
        figure,
        f"Test accuracy over the number of training cells. {'; '.join(said) or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "training cells", "rangemode": "tozero"},
        yaxis={"title": "test accuracy", "tickformat": ".0%"},
    )
