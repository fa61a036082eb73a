"""A smear with its white cells in numbered boxes, which the user can correct on the page."""

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import plotly.graph_objects as go

from leukodash.figures.theme import layout

SHOWN = 1100  # pixels of the longer side as sent to the browser, about 150 kB
HEIGHT, MARGIN = 520, 14
MIN_SIDE = 6  # pixels of a box in the browser's image; a smaller one is an accidental click
FRAME, INK = "#00684A", "#FFFFFF"  # a green that does not occur in either stain


def smear_jpeg(image: np.ndarray) -> str:
    """Return a smear, downscaled for a page, as a JPEG data URL.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    scale = min(1.0, SHOWN / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def smear_figure(
    picture: str,
    width: int,
    height: int,
    boxes: Sequence[tuple[int, int, int, int]],
    name: str,
    drag: bool = True,
    widest: int | None = None,
) -> go.Figure:
    """Draw a smear with a numbered marker at each box.

    Streamlit reports a dragged box or a clicked marker as a selection, where ``point_index`` of a marker is the index
    of its box. It cannot do both: if dragging is on, clicks are off.

    Args:
        picture: the smear as a data URL, from `smear_jpeg`.
        width, height: size of the smear in pixels.
        boxes: left, top, right and bottom of each box, in pixels of the smear.
        name: name of the smear, for the alt text.
        drag: whether boxes can be dragged; otherwise markers can be clicked.
        widest: width of the screen's column in pixels, where it is known to be narrow, so that no space is left below.
    """
    figure = go.Figure()
    figure.add_layout_image(
        source=picture, xref="x", yref="y", x=0, y=0, sizex=width, sizey=height, sizing="stretch", layer="below"
    )
    x = [at for left, _, right, _ in boxes for at in (left, right, right, left, left, None)]
    y = [at for _, top, _, bottom in boxes for at in (top, top, bottom, bottom, top, None)]
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": FRAME, "width": 2.5}, hoverinfo="skip")
    numbers = [str(number) for number in range(1, len(boxes) + 1)]
    look = {"size": 22, "symbol": "circle", "color": FRAME, "line": {"color": INK, "width": 1}}
    figure.add_scatter(
        x=[box[0] for box in boxes], y=[box[1] for box in boxes], mode="markers+text", text=numbers,
        textfont={"color": INK, "size": 11}, marker=look, cliponaxis=False,
        hovertemplate=f"cell %{{text}}{'' if drag else ': click to leave it out'}<extra></extra>",
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}, "textfont": {"color": INK}},
    )  # fmt: skip
    axis = {"visible": False, "fixedrange": True, "constrain": "domain"}
    count = "one white cell" if len(boxes) == 1 else f"{len(boxes) or 'no'} white cells"
    return layout(
        figure,
        f"Smear {name} with {count} in numbered boxes.",
        min(HEIGHT, round((widest - 2 * MARGIN) * height / width) + 2 * MARGIN) if widest else HEIGHT,
        xaxis=axis | {"range": [0, width]},
        yaxis=axis | {"range": [height, 0], "scaleanchor": "x", "constraintoward": "top"},
        dragmode="select" if drag else "pan",
        showlegend=False,
        margin=dict.fromkeys("lrtb", MARGIN),
        newselection={"line": {"color": FRAME, "width": 2, "dash": "dot"}},
    )


def drawn_box(selected: Mapping[str, Sequence[float]], width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of a dragged box, in whole pixels within the smear.

    Args:
        selected: two ``x`` and two ``y`` coordinates, as reported by Plotly.
        width, height: size of the smear in pixels.

    Returns:
        None for a box with a side of less than `MIN_SIDE` pixels in the browser's image.
    """
    left, right = (min(max(0, round(at)), width) for at in sorted(selected["x"]))
    top, bottom = (min(max(0, round(at)), height) for at in sorted(selected["y"]))
    smallest = MIN_SIDE * max(1.0, max(width, height) / SHOWN)
    return (left, top, right, bottom) if min(right - left, bottom - top) >= smallest else None
