"""Where a map's heat lies: on a cell on black, and on generated cells, whose nucleus is known, in the nucleus."""

from pathlib import Path

import cv2
import numpy as np

from leukodash.data.demo_cells import FILE_NAME, RECORD, demo_masks
from leukodash.data.images import read_image, square
from leukodash.errors import DataError, ImageError

BLACK = 12  # gray levels that still count as black: JPEG leaves some noise


def cell_mask(image: np.ndarray) -> np.ndarray | None:
    """Find the cell of a picture whose ground is black.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        bool (H, W), holes filled; None where the picture's edge is not black, or nothing is on it.
    """
    bright = image.max(axis=2) > BLACK
    edge = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    if edge.mean() > 0.25 or not bright.any():
        return None
    outlines, _ = cv2.findContours(bright.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(outlines, key=cv2.contourArea)
    mask = cv2.drawContours(np.zeros(bright.shape, np.uint8), [largest], -1, 1, cv2.FILLED).astype(bool)
    return mask if mask.mean() > 0.01 else None


def cell_map(mask: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Return the best map of a cell, float32 of that shape: how much of each place is cell. All ones without a mask."""
    if mask is None:
        return np.ones(shape, np.float32)
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)


def heat_fraction_inside(heat: np.ndarray, mask: np.ndarray) -> float:
    """Return which share of a map's heat, scaled up smoothly, lies in a mask; NaN for a map without heat.

    Args:
        heat: float (h, w), 0 to 1.
        mask: bool (H, W).
    """
    large = scaled(heat, mask.shape)
    return float(large[mask].sum() / large.sum()) if large.sum() > 0 else float("nan")


def generated_masks(folder: Path, name: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where nucleus and cell are, bool (H, W) each, if an image is a generated cell of a data set.

    Args:
        folder: of the data set that a run was trained on.
        name: what the image is called; what is before the last slash does not matter.
        image: uint8 RGB; it must look like the file of that name, for a name proves nothing.
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
    small = [square(one, 64).astype(np.int16) for one in (known, image)]
    return (nucleus, cell) if np.abs(small[0] - small[1]).mean() < 3 else None


def scaled(heat: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Scale a map (h, w) up to (H, W) smoothly, as an overlay does."""
    return cv2.resize(np.asarray(heat, np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
