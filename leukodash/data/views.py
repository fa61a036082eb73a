"""The eight views of a cell: its flips and rotations. Imports no Keras, so pages can use it."""

from collections.abc import Callable

import numpy as np

VIEWS = {"none": (0,), "flips": (0, 1, 2, 3), "views": tuple(range(8))}


def view(images: np.ndarray, number: int) -> np.ndarray:
    """Return one view of a batch, as cells have no orientation.

    Args:
        images: array of shape (n, size, size, c).
        number: 0..7. 0 changes nothing, 1 flips left-right, 2 top-bottom, 3 both (a rotation by 180°); 4 to 7 do the
            same after transposing, which gives the rotations by 90°. The eight are the symmetries of a square (dihedral
            group D4).
    """
    if number & 4:
        images = images.swapaxes(1, 2)
    if number & 1:
        images = images[:, :, ::-1]
    if number & 2:
        images = images[:, ::-1]
    return images


def mean_over_views(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, views: int) -> np.ndarray:
    """Return the mean prediction over the first views of a batch, in the shape that `predict` returns.

    Args:
        predict: function of images of shape (n, size, size, c).
        images: array of shape (n, size, size, c).
        views: number of views, 1..8.
    """
    return np.mean([predict(np.ascontiguousarray(view(images, number))) for number in range(views)], axis=0)
