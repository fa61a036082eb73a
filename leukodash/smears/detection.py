"""Blood smears: recognize them, find their white cells, and cut each out on black as in C-NMC."""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import scipy

from leukodash.smears.segmentation import density, label_white_cells

FRAME = 3.2  # side of a cut-out in red-cell diameters: C-NMC's normal cells span 0.39 of it and are 1.25 red cells wide
MAX_CELLS = 200  # of a smear; a field of a microscope has up to a dozen white cells
MAX_CUT_PIXELS = 16_000_000  # of all cut-outs of a smear
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

    Of more than `MAX_CELLS`, the largest are returned.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
    """
    labels, _, scale = label_white_cells(image)
    largest = sorted(_boxes(labels, scale, image.shape), key=lambda box: -area(box))[:MAX_CELLS]
    return sorted(largest, key=lambda box: (box.top, box.left))


def cut_outs(image: np.ndarray, boxes: list[Box], most_pixels: int = MAX_CUT_PIXELS) -> Iterator[np.ndarray]:
    """Cut cells of a smear out on black, each centered in a square with the relative size of C-NMC's images.

    Size distinguishes blasts from normal cells, so all squares of a smear have the same size, `FRAME`, except for cells
    that would fill less or more of it than C-NMC's cells do. Colors are not changed.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
        boxes: from `find_white_cells` or drawn by hand. If no cell was found in a box, its inscribed ellipse is used.
        most_pixels: of all cut-outs. Larger ones are scaled down.

    Yields:
        uint8 arrays of shape (side, side, 3), RGB, at the smear's own resolution unless that would be too large.
    """
    if not boxes:
        return
    labels, red_cell, scale = label_white_cells(image)
    found = _boxes(labels, scale, image.shape)
    largest = int((most_pixels / len(boxes)) ** 0.5)
    for box in boxes:
        crop = image[box.top : box.bottom, box.left : box.right]
        extent = max(crop.shape)
        side = round(np.clip(FRAME * red_cell / scale, extent / FILLS[1], extent / FILLS[0]))
        if side > largest:
            size = [max(1, round(length * largest / side)) for length in (box.right - box.left, box.bottom - box.top)]
            crop, side = cv2.resize(crop, size, interpolation=cv2.INTER_AREA), largest
        height, width = crop.shape[:2]
        cell = np.zeros((side, side, 3), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        mask = _mask(labels, found, box, scale, width, height)
        cell[top : top + height, left : left + width] = crop * mask[..., None]
        yield cell


def area(box: Box) -> int:
    """Return the area of a box in pixels."""
    return (box.right - box.left) * (box.bottom - box.top)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    return both / (area(one) + area(other) - both)


def _boxes(labels: np.ndarray, scale: float, shape: tuple[int, ...]) -> list[Box]:
    """Return the box of each label, in pixels of the smear of this shape."""
    boxes = []
    for rows, columns in scipy.ndimage.find_objects(labels):
        right, bottom = min(shape[1], round(columns.stop / scale)), min(shape[0], round(rows.stop / scale))
        boxes.append(Box(round(columns.start / scale), round(rows.start / scale), right, bottom))
    return boxes


def _mask(labels: np.ndarray, found: list[Box], box: Box, scale: float, width: int, height: int) -> np.ndarray:
    """Return the mask of the cell in a box: bool, of shape (height, width), which is the box's or smaller."""
    best = max(range(len(found)), key=lambda number: overlap(found[number], box), default=None)
    if best is None or overlap(found[best], box) < 0.5:
        ellipse = np.zeros((height, width), np.uint8)
        center = (width - 1) / 2, (height - 1) / 2
        return cv2.ellipse(ellipse, (center, (width, height), 0), 1, cv2.FILLED) > 0
    cell = (labels == best + 1).astype(np.float32)
    across, down = scale * (box.right - box.left) / width, scale * (box.bottom - box.top) / height
    to_copy = np.array([[across, 0, scale * box.left + across / 2 - 0.5], [0, down, scale * box.top + down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(cell, to_copy, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE) >= 0.5
