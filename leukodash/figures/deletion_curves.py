"""Deletion and insertion curves: class probability as pixels are covered or shown in the order of a heat map."""

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
    """Draw the probability of a class over the fraction of the image that is covered (deletion) or shown (insertion).

    Args:
        shares: float array of shape (points,), 0..1.
        deletion, insertion: float arrays of shape (points,), 0..1: probabilities in the order of the heat map.
        random_deletion, random_insertion: float arrays of shape (orders, points), 0..1: probabilities in random orders,
            of which the mean is drawn.
        backbone: key of the network's backbone, for the color.
        title: displayed name of the class.
    """
    figure = go.Figure()
    lines = (
        ("hottest pixels covered first", deletion, color(backbone), DELETION),
        ("random pixels covered", random_deletion.mean(axis=0), FAINT, DELETION),
        ("hottest pixels shown first", insertion, color(backbone), INSERTION),
        ("random pixels shown", random_insertion.mean(axis=0), FAINT, INSERTION),
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
    quarters = [float(np.interp(0.25, shares, values)) for _, values, _, _ in lines]
    alt = (
        f"Probability of {title} as the image is covered or shown. With a quarter covered it is {quarters[0]:.0%} with "
        f"the hottest pixels first and {quarters[1]:.0%} in random order; with a quarter shown it is "
        f"{quarters[2]:.0%} and {quarters[3]:.0%}."
    )
    return layout(
        figure,
        alt,
        HEIGHT,
        xaxis={"title": "share of the image covered or shown", "tickformat": ".0%", "dtick": 0.25, "range": [0, 1.01]},
        yaxis={"title": f"probability of {title}", "tickformat": ".0%", "range": [-0.02, 1.02]},
    )
