"""Simple classifiers that a network must beat: cell area, color histogram, and SVM and k-NN on frozen features.

All are scikit-learn's, fitted on the training cells. Dhuri and Guinde (2020) cite a comparison of a network, a
support vector machine and k-nearest neighbors on extracted features; the area alone tells how much of a result is size.
"""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from leukodash.evaluation.cell_area import CELL_BRIGHTER_THAN, cell_area

BINS = 16
COMPONENTS = 64  # of the frozen features: keeps the kernel's distances meaningful and the fit within seconds
NEIGHBORS = 15

AREA, HISTOGRAM, SVM, KNN = "Cell area alone", "Color histogram", "SVM on frozen features", "k-NN on frozen features"


def color_histogram(images: np.ndarray) -> np.ndarray:
    """How a cell's pixels spread over the levels of red, green and blue; the black around it is left out.

    Args:
        images: uint8 array of shape (n, h, w, 3), RGB.

    Returns:
        float array of shape (n, 48): 16 bins a channel, each channel summing to one (to zero for a black image).
    """
    histograms = np.zeros((len(images), 3, BINS))
    for row, image in enumerate(images):
        pixels = image[image.max(axis=2) > CELL_BRIGHTER_THAN] // (256 // BINS)
        for channel in range(3):
            histograms[row, channel] = np.bincount(pixels[:, channel], minlength=BINS) / max(1, len(pixels))
    return histograms.reshape(len(images), 3 * BINS)


def area(images: np.ndarray) -> np.ndarray:
    """`area.cell_area` as a table of one column, float (n, 1), as a share of the image."""
    return cell_area(images)[:, None] / np.prod(np.shape(images)[1:3])


def classifier(name: str, features: int) -> ClassifierMixin:
    """The classifier of a baseline, not fitted yet.

    Args:
        name: `AREA`, `HISTOGRAM`, `SVM` or `KNN`.
        features: how many columns it will be fitted on.
    """
    if name in (AREA, HISTOGRAM):
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # Probabilities of the SVM by Platt's sigmoid, fitted by cross-validation.
    last = (
        CalibratedClassifierCV(SVC(), ensemble=False)
        if name == SVM
        else KNeighborsClassifier(NEIGHBORS, weights="distance")
    )
    return make_pipeline(StandardScaler(), PCA(min(COMPONENTS, features), random_state=0), last)


def baseline(
    name: str, features: np.ndarray, labels: np.ndarray, train: np.ndarray, classes: tuple[str, ...]
) -> np.ndarray:
    """Fit a baseline on the training cells and let it answer for all.

    Args:
        name: as in `classifier`.
        features: float array of shape (n, f), a row a cell.
        labels: true classes, (n,).
        train: bool array of shape (n,): the cells to learn from, of every class.
        classes: the order of the columns of the answer.

    Returns:
        float array of shape (n, K), 0..1, rows that sum to one.
    """
    features = np.asarray(features, dtype=float)
    fitted = classifier(name, min(features.shape[1], int(train.sum()))).fit(features[train], labels[train])
    return fitted.predict_proba(features)[:, [list(fitted.classes_).index(label) for label in classes]]
