"""How a class holds while its cell is covered or uncovered, in the order of a heat map and in random orders."""

import numpy as np
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, color, layout

HEIGHT = 260
DELETION, INSERTION = "dash", "solid"


def curves_figure(
    shares: np.ndarray,
    deletion: np.ndarray,
    insertion: np.ndarray,
    random_deletion: np.ndarray,
    random_insertion: np.ndarray,
    backbone: str | None,
    title: str,
) -> go.Figure:
    """Probability of a class over the share of the picture that is covered (deletion) or shown (insertion).

    Args:
        shares: float (points,), 0 to 1.
        deletion, insertion: float (points,), probabilities in the order of the map.
        random_deletion, random_insertion: float (orders, points), in random orders; their mean is drawn.
        backbone: key of the network's, for its color.
        title: words for the class.
    """
    figure = go.Figure()
    lines = (
        ("hottest covered first", deletion, color(backbone), DELETION),
        ("random places covered", random_deletion.mean(axis=0), FAINT, DELETION),
        ("hottest shown first", insertion, color(backbone), INSERTION),
        ("random places shown", random_insertion.mean(axis=0), FAINT, INSERTION),
    )
    for name, values, ink, dash in lines:
        figure.add_scatter(
            x=shares,
            y=values,
            name=name,
            mode="lines",
            line={"color": ink, "width": 2, "dash": dash},
            hovertemplate=f"{name}: %{{y:.0%}} at %{{x:.0%}}<extra></extra>",
        )
    halves = [float(np.interp(0.25, shares, values)) for _, values, _, _ in lines]
    alt = (
        f"Probability of {title} while the picture is covered or shown bit by bit. With a quarter covered it is "
        f"{halves[0]:.0%} where the hottest places go first and {halves[1]:.0%} in random orders; with a quarter shown "
        f"it is {halves[2]:.0%} and {halves[3]:.0%}."
    )
    return layout(
        figure,
        alt,
        HEIGHT,
        xaxis={
            "title": "share of the picture covered, or shown",
            "tickformat": ".0%",
            "dtick": 0.25,
            "range": [0, 1.01],
        },
        yaxis={"title": f"probability of {title}", "tickformat": ".0%", "range": [-0.02, 1.02]},
    )
