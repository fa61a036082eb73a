"""Blood smears: recognize them, find their white cells, and cut each out on black as in C-NMC."""

from typing import NamedTuple

import cv2
import numpy as np

from leukodash.smears.segmentation import density, label_white_cells

FRAME = 3.2  # side of a cut-out in red-cell diameters: C-NMC's normal cells span 0.39 of it and are 1.25 red cells wide
FILLS = 0.33, 0.76  # fraction of its frame that a C-NMC cell spans: 98% of 300 cells per class are in this range


class Box(NamedTuple):
    """The bounding box of a cell in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def looks_like_smear(image: np.ndarray) -> bool:
    """Return whether an image is a photograph of a stained smear, with or without white cells.

    A smear has a bright, nearly colorless background with pink to violet cells. Cells cut out on black have no such
    background, and other photographs have other colors: at least 93% of the foreground is pink in BCCD images, but at
    most 52% in 25 images of scikit-image, except for one of an eye, which has no bright background.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    height, width = image.shape[:2]
    scale = 200 / max(height, width)
    if min(height, width) * min(scale, 1) < 16:
        return False
    step = max(1, max(height, width) // 1000)  # using every pixel of a large image would take 0.1 s
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA)
    dense, light = density(small)
    red, green, blue = cv2.split(dense)
    foreground = green > 0.15
    pink = (green > red) & (green > blue - 0.12)
    return bool(
        light.min() >= 100
        and np.ptp(light) <= 60
        and (small.max(axis=2) < 25).mean() < 0.05
        and (np.abs(dense).max(axis=2) < 0.12).mean() >= 0.1
        and foreground.mean() >= 0.02
        and pink[foreground].mean() >= 0.75
    )


def find_white_cells(image: np.ndarray) -> list[Box]:
    """Return the boxes of a smear's white cells, including those cut by its border, from top to bottom.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    labels, _, scale = label_white_cells(image)
    return sorted(_boxes(labels, scale, image.shape), key=lambda box: (box.top, box.left))


def cut_outs(image: np.ndarray, boxes: list[Box]) -> list[np.ndarray]:
    """Cut cells of a smear out on black, each centered in a square with the relative size of C-NMC's images.

    Size distinguishes blasts from normal cells, so all squares of a smear have the same size, `FRAME`, except for cells
    that would fill less or more of it than C-NMC's cells do. Colors are not changed.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
        boxes: from `find_white_cells` or drawn by hand. If no cell was found in a box, its inscribed ellipse is used.

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
    """Return the intersection over union of two boxes, 0..1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return both / (areas - both)


def _boxes(labels: np.ndarray, scale: float, shape: tuple[int, ...]) -> list[Box]:
    """Return the box of each label, in pixels of the smear of this shape."""
    boxes = []
    for number in range(1, int(labels.max()) + 1):
        left, top, width, height = cv2.boundingRect((labels == number).astype(np.uint8))
        right, bottom = min(shape[1], round((left + width) / scale)), min(shape[0], round((top + height) / scale))
        boxes.append(Box(round(left / scale), round(top / scale), right, bottom))
    return boxes


def _mask(labels: np.ndarray, found: list[Box], box: Box, scale: float) -> np.ndarray:
    """Return the mask of the cell in a box: bool, of the box's height and width in pixels of the smear."""
    width, height = box.right - box.left, box.bottom - box.top
    best = max(range(len(found)), key=lambda number: overlap(found[number], box), default=None)
    if best is None or overlap(found[best], box) < 0.5:
        ellipse = np.zeros((height, width), np.uint8)
        center = (width - 1) / 2, (height - 1) / 2
        return cv2.ellipse(ellipse, (center, (width, height), 0), 1, cv2.FILLED) > 0
    cell = (labels == best + 1).astype(np.float32)
    to_copy = np.array([[scale, 0, scale * (box.left + 0.5) - 0.5], [0, scale, scale * (box.top + 0.5) - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(cell, to_copy, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE) >= 0.5
