"""The eight views of a cell. Light, so that a page can show them."""

from collections.abc import Callable

import numpy as np

VIEWS = {"none": (0,), "flips": (0, 1, 2, 3), "views": tuple(range(8))}


def view(images: np.ndarray, number: int) -> np.ndarray:
    """Turn and mirror a batch: cells have no up or down.

    Args:
        images: (n, size, size, c).
        number: 0 to 7. 0 leaves as it is, 1 mirrors left-right, 2 top-bottom, 3 both (a half turn); 4 to 7 are the
            same after swapping rows and columns, which gives the quarter turns. The eight are the symmetries of a
            square (dihedral group D4).
    """
    if number & 4:
        images = images.swapaxes(1, 2)
    if number & 1:
        images = images[:, :, ::-1]
    if number & 2:
        images = images[:, ::-1]
    return images


def mean_over_views(ask: Callable[[np.ndarray], np.ndarray], images: np.ndarray, views: int) -> np.ndarray:
    """Return the mean of what `ask` answers for the first views of a batch, an array of any shape.

    Args:
        ask: images (n, size, size, c) → answers.
        images: (n, size, size, c).
        views: how many.
    """
    return np.mean([ask(np.ascontiguousarray(view(images, number))) for number in range(views)], axis=0)
