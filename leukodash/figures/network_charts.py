"""Figures of a network: a feature map as a tile, and the number of parameters by block."""

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.figures.theme import color, layout

STATE_WORDS = {"trained": "trained", "frozen": "frozen", "partly": "partly trained", "": "no parameters"}


def tile(feature_map: np.ndarray, size: int = 112, color_map: str = "viridis") -> np.ndarray:
    """Draw a feature map, scaled from its minimum (dark) to its maximum (light).

    Args:
        feature_map: float array of shape (h, w), any range.
        size: pixels per side.
        color_map: a key of `heat_overlay.COLOR_MAPS`.

    Returns:
        uint8 array of shape (size, size, 3), RGB.
    """
    low, high = float(feature_map.min()), float(feature_map.max())
    scaled = (np.asarray(feature_map, np.float32) - low) / ((high - low) or 1)
    levels = np.rint(255 * scaled).astype(np.uint8)
    method = cv2.INTER_NEAREST if max(feature_map.shape) <= size else cv2.INTER_AREA
    resized = cv2.resize(levels, (size, size), interpolation=method)
    return cv2.applyColorMap(resized, COLOR_MAPS[color_map])[..., ::-1]


def blocks_figure(blocks: pd.DataFrame, backbone: str) -> go.Figure:
    """Draw the number of parameters of each block, from the input down; frozen parameters are hatched.

    Args:
        blocks: columns block, output, parameters, trained_parameters, from `feature_maps.block_table`.
        backbone: backbone key, for the color.
    """
    rows = blocks[blocks["parameters"] > 0]
    frozen = rows["parameters"] - rows["trained_parameters"]
    figure = go.Figure()
    for name, values, shape, opacity in (
        ("trained", rows["trained_parameters"], "", 1.0),
        ("frozen", frozen, "/", 0.35),
    ):
        figure.add_bar(
            y=rows["block"],
            x=values,
            name=name,
            orientation="h",
            marker={"color": color(backbone), "opacity": opacity, "pattern": {"shape": shape}},
            customdata=rows["output"],
            hovertemplate="%{y}: %{x:,} parameters, output %{customdata}<extra>%{fullData.name}</extra>",
        )
    largest = rows.iloc[int(rows["parameters"].argmax())]
    share = largest["parameters"] / rows["parameters"].sum()
    return layout(
        figure,
        f"Parameters by block. {largest['block']} has the most, {share:.0%}. "
        f"{int(rows['trained_parameters'].sum()):,} of {int(rows['parameters'].sum()):,} were trained.",
        max(180, 60 + 22 * len(rows)),
        barmode="stack",
        bargap=0.25,
        xaxis={"title": "parameters"},
        yaxis={"autorange": "reversed", "type": "category"},
    )
