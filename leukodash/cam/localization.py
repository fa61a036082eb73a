"""Locating heat: how much of it lies on the cell and, for generated cells, whose masks are known, on the nucleus."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from leukodash.data.demo_cells import FILE_NAME, RECORD, demo_masks
from leukodash.data.images import read_image, square
from leukodash.errors import DataError, ImageError

BLACK_LEVEL = 12  # highest gray level that counts as black: JPEG leaves some noise


def cell_mask(image: np.ndarray) -> np.ndarray | None:
    """Segment the cell of an image with a black background.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        bool (H, W), holes filled; None if the border of the image is not black, or the image is empty.
    """
    bright = image.max(axis=2) > BLACK_LEVEL
    edge = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    if edge.mean() > 0.25 or not bright.any():
        return None
    outlines, _ = cv2.findContours(bright.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(outlines, key=cv2.contourArea)
    mask = cv2.drawContours(np.zeros(bright.shape, np.uint8), [largest], -1, 1, cv2.FILLED).astype(bool)
    return mask if mask.mean() > 0.01 else None


def ideal_map(mask: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Return the ideal map of a cell: the fraction of cell in each map pixel, float32. All ones without a mask."""
    if mask is None:
        return np.ones(shape, np.float32)
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)


def heat_fraction_inside(heat: np.ndarray, mask: np.ndarray) -> float:
    """Return the fraction of a map's heat that lies inside a mask; NaN for a map without heat.

    Args:
        heat: float (h, w), 0 to 1.
        mask: bool (H, W).
    """
    large = resize_map(heat, mask.shape)
    return float(large[mask].sum() / large.sum()) if large.sum() > 0 else float("nan")


class HeatPlace(NamedTuple):
    """Where the heat of a map lies.

    Attributes:
        share: fraction of the heat that lies on the cell, 0 to 1; NaN without heat, or without a black ground.
        peak_on_cell: whether the hottest place does; True where the share is NaN.
    """

    share: float
    peak_on_cell: bool


def heat_place(image: np.ndarray, heat: np.ndarray) -> HeatPlace:
    """Return where a map's heat lies.

    Args:
        image: uint8 (H, W, 3), RGB, of any size; padded to a square as for the network.
        heat: float (h, w), 0 to 1, its map.
    """
    mask = cell_mask(square(image, max(image.shape[:2])))
    if mask is None or not heat.any():
        return HeatPlace(float("nan"), True)
    peak = np.unravel_index(resize_map(heat, mask.shape).argmax(), mask.shape)
    return HeatPlace(heat_fraction_inside(heat, mask), bool(mask[peak]))


def generated_masks(folder: Path, name: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the masks of nucleus and cell, bool (H, W) each, if an image is a generated cell of a data set.

    Args:
        folder: the data set that a run was trained on.
        name: file name of the image; folders before it are ignored.
        image: uint8 RGB; compared with the file of that name, since a name proves nothing.
    """
    name, generated = Path(name).name, (folder / RECORD).is_file()
    path = next(folder.rglob(name), None) if generated and FILE_NAME.fullmatch(name) else None
    if path is None:
        return None
    try:
        nucleus, cell = demo_masks(folder, path.relative_to(folder).as_posix())
        known = read_image(path)
    except (DataError, ImageError):
        return None
    small = [square(picture, 64).astype(np.int16) for picture in (known, image)]
    return (nucleus, cell) if np.abs(small[0] - small[1]).mean() < 3 else None


def resize_map(heat: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a map (h, w) to (H, W) by linear interpolation, as the overlay does."""
    return cv2.resize(np.asarray(heat, np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
