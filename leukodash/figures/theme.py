"""How every figure looks: a color and a symbol for each backbone, a transparent ground, a sentence for alt text.

Background, font and text color are left to whoever shows the figure, so that light and dark themes both fit.
"""

from typing import Any

import plotly.graph_objects as go

# Okabe and Ito (2008) without black and yellow, which vanish on a dark or a light page; the last two were searched
# for the largest distance from all others in normal, protanope and deuteranope sight, visible on both pages.
BACKBONE_COLORS = {
    "mobilenet": "#E69F00",
    "vgg16": "#0072B2",
    "resnet50": "#009E73",
    "googlenet": "#CC79A7",
    "inceptionv3": "#56B4E9",
    "nasnetmobile": "#D55E00",
    "alexnet": "#9E2A2B",
    "efficientnetv2b0": "#A020F0",
}
BACKBONE_SYMBOLS = {
    "mobilenet": "circle",
    "vgg16": "square",
    "resnet50": "diamond",
    "googlenet": "triangle-up",
    "inceptionv3": "triangle-down",
    "nasnetmobile": "cross",
    "alexnet": "x",
    "efficientnetv2b0": "star",
}
PUBLISHED_GREY = "#808080"
OTHER_COLOR, OTHER_SYMBOL = "#808080", "hexagon"  # an imported run, an ensemble, a baseline
TRAIN_DASH, VALIDATION_DASH = "dot", "solid"
GRID = "rgba(128, 128, 128, 0.25)"
FAINT = "rgba(128, 128, 128, 0.6)"  # lines of reference: chance, perfect calibration
# From nothing to blue: whatever the page's ground, its own text color stays readable on it.
SHARE_SCALE = ((0, "rgba(0, 114, 178, 0.04)"), (1, "rgba(0, 114, 178, 0.6)"))
SYMBOL_VARIANTS = ("", "-open", "-dot", "-open-dot")


def color(backbone: str | None) -> str:
    """The color of a backbone, by its key; grey for what is none."""
    return BACKBONE_COLORS.get(backbone or "", OTHER_COLOR)


def symbol(backbone: str | None) -> str:
    """The marker of a backbone, by its key."""
    return BACKBONE_SYMBOLS.get(backbone or "", OTHER_SYMBOL)


def symbols(backbones: dict[str, str | None]) -> dict[str, str]:
    """A marker for each run: its backbone's, varied where several runs share the backbone.

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
    """Give a figure the common look and its alt text.

    Args:
        figure: changed in place.
        alt: what the figure shows, one sentence or two, for who cannot see it; read it back with `alt_text`.
        height: pixels, so that nothing jumps when data arrive.
        more: further layout of plotly, which wins over the common one.
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
    """The sentence that says what a figure shows, for `alt`, a caption or a report."""
    return figure.layout.meta["alt"]
