"""Whole blood smears: tell one from other pictures, find its white cells, set each on black as C-NMC has its cells."""

from typing import NamedTuple

import cv2
import numpy as np

from leukodash.smears.segmentation import density, label_white_cells

FRAME = 3.2  # side of a cut-out in red cells: C-NMC's normal cells fill 0.39 of theirs, and are 1.25 red cells wide
FILLS = 0.33, 0.76  # the share of its frame that a C-NMC cell spans: of 300 a class, 98 % lie between


class Box(NamedTuple):
    """Where a cell is, in pixels; right and bottom lie just outside it."""

    left: int
    top: int
    right: int
    bottom: int


def looks_like_smear(image: np.ndarray) -> bool:
    """Whether an image is a photograph of a stained smear, with or without white cells.

    A smear has a bright, nearly colorless ground, and what lies on it is pink to violet. Cells cut out on black have
    no such ground, and photographs of other things have other colors: on BCCD at least 0.93 of what is not ground is
    pink, on 25 pictures that come with scikit-image at most 0.52, but for an eye's, which has no ground.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    height, width = image.shape[:2]
    scale = 200 / max(height, width)
    if min(height, width) * min(scale, 1) < 16:
        return False
    step = max(1, max(height, width) // 1000)  # every pixel of a large photograph would take a tenth of a second
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA)
    dense, light = density(small)
    red, green, blue = cv2.split(dense)
    on_it = green > 0.15
    pink = (green > red) & (green > blue - 0.12)
    return bool(
        light.min() >= 100
        and np.ptp(light) <= 60
        and (small.max(axis=2) < 25).mean() < 0.05
        and (np.abs(dense).max(axis=2) < 0.12).mean() >= 0.1
        and on_it.mean() >= 0.02
        and pink[on_it].mean() >= 0.75
    )


def find_white_cells(image: np.ndarray) -> list[Box]:
    """Find the white cells of a smear, whole or cut by its border, from top to bottom.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    labels, _, scale = label_white_cells(image)
    return sorted(_boxes(labels, scale, image.shape), key=lambda box: (box.top, box.left))


def cut_out(image: np.ndarray, box: Box) -> np.ndarray:
    """Set one cell of a smear on black; see `cut_outs`, which does many at once."""
    return cut_outs(image, [box])[0]


def cut_outs(image: np.ndarray, boxes: list[Box]) -> list[np.ndarray]:
    """Set cells of a smear on black, each in the middle of a square that is as large for it as C-NMC's are.

    A cell's size tells a blast from a normal cell, so the squares of a slide are of one size, `FRAME`, but for cells
    that would be smaller or larger in it than C-NMC's are in theirs. The stain stays as it is.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
        boxes: from `find_white_cells`, or drawn by hand: where no cell was found, the ellipse in the box is taken.

    Returns:
        uint8 arrays of shape (side, side, 3), RGB, at the smear's own resolution.
    """
    labels, red_cell, scale = label_white_cells(image)
    found = _boxes(labels, scale, image.shape)
    cells = []
    for box in boxes:
        mask = _mask(labels, found, box, scale)
        extent = max(mask.shape)
        side = round(np.clip(FRAME * red_cell / scale, extent / FILLS[1], extent / FILLS[0]))
        cell = np.zeros((side, side, 3), np.uint8)
        top, left = (side - mask.shape[0]) // 2, (side - mask.shape[1]) // 2
        crop = image[box.top : box.bottom, box.left : box.right]
        cell[top : top + mask.shape[0], left : left + mask.shape[1]] = crop * mask[..., None]
        cells.append(cell)
    return cells


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return both / (areas - both)


def _boxes(labels: np.ndarray, scale: float, shape: tuple[int, ...]) -> list[Box]:
    """The box of each label, in pixels of the smear, whose shape is given."""
    boxes = []
    for number in range(1, int(labels.max()) + 1):
        left, top, width, height = cv2.boundingRect((labels == number).astype(np.uint8))
        right, bottom = min(shape[1], round((left + width) / scale)), min(shape[0], round((top + height) / scale))
        boxes.append(Box(round(left / scale), round(top / scale), right, bottom))
    return boxes


def _mask(labels: np.ndarray, found: list[Box], box: Box, scale: float) -> np.ndarray:
    """Where the cell is in a box, bool, of the box's height and width in pixels of the smear."""
    width, height = box.right - box.left, box.bottom - box.top
    best = max(range(len(found)), key=lambda number: overlap(found[number], box), default=None)
    if best is None or overlap(found[best], box) < 0.5:
        ellipse = np.zeros((height, width), np.uint8)
        middle = (width - 1) / 2, (height - 1) / 2
        return cv2.ellipse(ellipse, (middle, (width, height), 0), 1, cv2.FILLED) > 0
    own = (labels == best + 1).astype(np.float32)
    at = np.array([[scale, 0, scale * (box.left + 0.5) - 0.5], [0, scale, scale * (box.top + 0.5) - 0.5]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(own, at, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE) >= 0.5
