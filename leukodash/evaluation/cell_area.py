"""What the area of a cell alone tells: a network that does not beat it has learnt nothing beyond size."""

import numpy as np
from sklearn.metrics import roc_auc_score

CELL_BRIGHTER_THAN = 5  # grey level: segmented cells lie on black


def cell_area(images: np.ndarray) -> np.ndarray:
    """Return each cell's area in pixels: how many are brighter than 5, since segmented cells lie on black.

    Args:
        images: uint8 array of shape (n, h, w, 3), RGB.

    Returns:
        int array of shape (n,).
    """
    images = np.asarray(images)
    return np.array([np.count_nonzero(image.max(axis=2) > CELL_BRIGHTER_THAN) for image in images], dtype=int)


def area_auc(areas: np.ndarray, is_positive: np.ndarray) -> float | None:
    """Return the ROC AUC of the area alone (a larger cell is more likely a blast); None where a class is missing."""
    is_positive = np.asarray(is_positive, dtype=bool)
    if is_positive.all() or not is_positive.any():
        return None
    return float(roc_auc_score(is_positive, areas))
