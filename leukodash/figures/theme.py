"""The common look of all figures: the color and symbol of each backbone, a transparent background, alt text.

The page or report that shows a figure sets the font and its color, so that light and dark themes both work.
"""

from typing import Any

import plotly.graph_objects as go

from leukodash.models.backbones import BACKBONES

PUBLISHED_GREY = "#808080"
OTHER_COLOR, OTHER_SYMBOL = "#808080", "hexagon"  # an imported run, an ensemble, a baseline
TRAIN_DASH, VALIDATION_DASH = "dot", "solid"
GRID = "rgba(128, 128, 128, 0.25)"
FAINT = "rgba(128, 128, 128, 0.6)"  # reference lines: chance, perfect calibration
# From transparent to blue: the page's text color stays readable on it, in light and dark themes.
SHARE_SCALE = ((0, "rgba(0, 114, 178, 0.04)"), (1, "rgba(0, 114, 178, 0.6)"))
SYMBOL_VARIANTS = ("", "-open", "-dot", "-open-dot")


def color(backbone: str | None) -> str:
    """Return the color of a backbone, by its key; grey for anything else."""
    return BACKBONES[backbone].color if backbone in BACKBONES else OTHER_COLOR


def symbol(backbone: str | None) -> str:
    """Return the marker of a backbone, by its key; a hexagon for anything else."""
    return BACKBONES[backbone].symbol if backbone in BACKBONES else OTHER_SYMBOL


def symbols(backbones: dict[str, str | None]) -> dict[str, str]:
    """Return a marker for each run: that of its backbone, varied if several runs share the backbone.

    Args:
        backbones: backbone key by run name.
    """
    seen: dict[str, int] = {}
    chosen = {}
    for name, backbone in backbones.items():
        kind = symbol(backbone)
        chosen[name] = kind + SYMBOL_VARIANTS[seen.get(kind, 0) % len(SYMBOL_VARIANTS)]
        seen[kind] = seen.get(kind, 0) + 1
    return chosen


def layout(figure: go.Figure, alt: str, height: int, **more: Any) -> go.Figure:
    """Give a figure the common look and its alt text, and return it.

    Args:
        figure: changed in place.
        alt: one or two sentences on what the figure shows, for people who cannot see it; `alt_text` reads them.
        height: pixels; fixed, so that the page does not move when data arrive.
        more: further Plotly layout, which overrides the common one.
    """
    look = {
        "height": height,
        "meta": {"alt": alt},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    }
    grid = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True}
    axes = {axis: grid | more.pop(axis, {}) for axis in ("xaxis", "yaxis")}
    figure.update_layout(look | more | axes, overwrite=True)  # merging key by key would take three times as long
    return figure


def alt_text(figure: go.Figure) -> str:
    """Return the sentences that say what a figure shows, for ``alt``, a caption or a report."""
    return figure.layout.meta["alt"]
