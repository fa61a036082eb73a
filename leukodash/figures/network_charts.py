"""Pictures of a network's inside: one feature map as a tile, and where its parameters lie."""

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.figures.theme import color, layout

STATE_WORDS = {"trained": "trained", "frozen": "frozen", "partly": "partly trained", "": "no parameters"}


def tile(feature_map: np.ndarray, size: int = 112, color_map: str = "viridis") -> np.ndarray:
    """Draw one feature map, from its own lowest value (dark) to its own highest (light), places as squares.

    Args:
        feature_map: float (h, w), any scale.
        size: pixels a side.
        color_map: a key of `overlay.COLOR_MAPS`.

    Returns:
        uint8 (size, size, 3), RGB.
    """
    low, high = float(feature_map.min()), float(feature_map.max())
    scaled = (np.asarray(feature_map, np.float32) - low) / ((high - low) or 1)
    levels = np.rint(255 * scaled).astype(np.uint8)
    how = cv2.INTER_NEAREST if max(feature_map.shape) <= size else cv2.INTER_AREA
    large = cv2.resize(levels, (size, size), interpolation=how)
    return cv2.applyColorMap(large, COLOR_MAPS[color_map])[..., ::-1]


def blocks_figure(blocks: pd.DataFrame, backbone: str) -> go.Figure:
    """Where a network's parameters lie, a bar a block, from the input down; hatched where training left them alone.

    Args:
        blocks: columns block, output, parameters, trained_parameters, from `explain.inside.block_table`.
        backbone: its key, for the color.
    """
    rows = blocks[blocks["parameters"] > 0]
    kept = rows["parameters"] - rows["trained_parameters"]
    figure = go.Figure()
    for name, values, shape, opacity in (("trained", rows["trained_parameters"], "", 1.0), ("frozen", kept, "/", 0.35)):
        figure.add_bar(
            y=rows["block"],
            x=values,
            name=name,
            orientation="h",
            marker={"color": color(backbone), "opacity": opacity, "pattern": {"shape": shape}},
            customdata=rows["output"],
            hovertemplate="%{y}: %{x:,} parameters, output %{customdata}<extra>%{fullData.name}</extra>",
        )
    largest = rows.loc[rows["parameters"].idxmax()]
    share = largest["parameters"] / rows["parameters"].sum()
    return layout(
        figure,
        f"Parameters by block. The most, {share:.0%}, are in {largest['block']}. "
        f"{int(rows['trained_parameters'].sum()):,} of {int(rows['parameters'].sum()):,} were trained.",
        max(180, 60 + 22 * len(rows)),
        barmode="stack",
        bargap=0.25,
        xaxis={"title": "parameters"},
        yaxis={"autorange": "reversed", "type": "category"},
    )
