"""This is no cell: how unlike the training cells an image looks to a network.

A network answers whatever it is shown, a photograph of a cat too. The features in front of its head tell: those of
cells lie close together, and those of anything else lie far off. Their distance is that of Mahalanobis, after Lee et
al. (2018), *A simple unified framework for detecting out-of-distribution samples*, with the covariance of Tipping &
Bishop (1999), *Probabilistic principal component analysis*: a few directions have a spread of their own, all others
share one. That is as good here as a shrunk covariance of all features or the nearest training cells
(`benchmarks/novelty_rates.py`), and kilobytes instead of megabytes. NumPy alone scores, so that a page can.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from leukodash.atomic_write import write_atomic
from leukodash.errors import RunError

FILE = "novelty.npz"
DIRECTIONS = 32
ACCEPTED = 0.99  # of the validation cells, so that 95 % of the next subjects' are: subjects differ
TRAINING_CELLS = 1000  # looked at to fit; with 3,000 nothing changes
SMALLEST_SPREAD = 1e-8  # features of length 1 that differ by less do not differ: a network may give all cells the same


@dataclass(frozen=True, eq=False)
class Novelty:
    """The training cells' features, in short; made by `fit` or `load`.

    Attributes:
        mean: float32 (d,), of the features scaled to length 1.
        directions: float16 (d, k), of unit length, in which those differ most; k is `DIRECTIONS` or less.
        spread: float64 (k,), variance in each of these directions.
        rest: float64 (), variance in each direction across them.
        limit: a score above it is that of no cell like the training cells: `ACCEPTED` of the validation cells, which
            took no part in fitting, lie at or below.
    """

    mean: np.ndarray
    directions: np.ndarray
    spread: np.ndarray
    rest: float
    limit: float

    @classmethod
    def fit(cls, training: np.ndarray, validation: np.ndarray) -> Novelty:
        """Fit to some training cells' pooled features (n, d), and set the limit on the validation cells' (m, d)."""
        from sklearn.utils.extmath import randomized_svd  # takes a second to import, and scoring does without
        from threadpoolctl import threadpool_limits

        training = _unit(training)
        n, d = training.shape
        mean = training.mean(axis=0).astype(np.float32)
        k = max(1, min(DIRECTIONS, n // 8, d - 1))  # of few cells, further directions are chance
        with threadpool_limits(1):  # threads that wait for each other on a busy machine make 0.2 s into 10
            directions = randomized_svd(training - mean, k, random_state=0)[2].T.astype(np.float16)
        # What is measured from here on is measured with the rounded numbers that are kept.
        along, across = _split(training - mean, directions)
        spread = np.maximum((along**2).mean(axis=0), SMALLEST_SPREAD)
        rest = max(float(across.mean()) / (d - k), SMALLEST_SPREAD)
        fitted = cls(mean, directions, spread, rest, np.inf)
        return cls(mean, directions, spread, rest, float(np.quantile(fitted.score(validation), ACCEPTED)))

    def score(self, pooled: np.ndarray) -> np.ndarray:
        """Return how far each image lies from the training cells, float64 (n,), 0 or more; see `limit`.

        Args:
            pooled: float (n, d), or (n, places · d) where a run flattens: outputs of the layer ``pool``. Where they
                are no numbers, the score is infinite.
        """
        along, across = _split(_unit(mean_over_places(pooled, len(self.mean))) - self.mean, self.directions)
        squared = (along**2 / self.spread).sum(axis=1) + across / self.rest
        return np.sqrt(np.where(np.isnan(squared), np.inf, squared))

    def save(self, folder: Path) -> None:
        """Write ``novelty.npz`` into a run's folder, whole. The same fit gives the same bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_atomic(folder / FILE, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Novelty | None:
        """Read what `save` wrote; None where there is nothing: the run is older, or was trained elsewhere.

        Raises RunError where the file is damaged.
        """
        try:
            with np.load(folder / FILE) as kept:
                arrays = {field.name: kept[field.name] for field in fields(cls)}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"'{FILE}' of '{folder.name}' cannot be read, so images that are no cells would not be noticed. "
                "Train the run again, or delete the file to do without."
            ) from error
        return cls(**{**arrays, "rest": float(arrays["rest"]), "limit": float(arrays["limit"])})


def mean_over_places(pooled: np.ndarray, channels: int) -> np.ndarray:
    """Average flattened feature maps, (n, places · channels), to (n, channels); other outputs stay as they are."""
    return pooled if pooled.shape[1] == channels else pooled.reshape(len(pooled), -1, channels).mean(axis=1)


def _unit(features: np.ndarray) -> np.ndarray:
    """Scale each row to length 1: a brighter image has longer features, and is no other thing. Zeros stay zeros."""
    features = np.asarray(features, np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return features / np.where(length == 0, 1, length)


def _split(moved: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, k) in the directions, and the squared length (n,) of what lies across them."""
    along = moved @ directions.astype(np.float64)
    return along, np.maximum((moved**2).sum(axis=1) - (along**2).sum(axis=1), 0)
