"""Out-of-distribution detection: how far an image's features lie from those of the training cells.

A network classifies any image, even a photograph of a cat. The features that enter its head are close together for
cells and far away for anything else. The score is the Mahalanobis distance (Lee et al. 2018, *A simple unified
framework for detecting out-of-distribution samples*) with the covariance of Tipping & Bishop (1999), *Probabilistic
principal component analysis*: a variance for each of a few principal directions, and one that all other directions
share. This works as well here as a shrinkage covariance of all features or the nearest training cells
(`benchmarks/novelty_rates.py`), and takes kilobytes instead of megabytes. Scoring needs only NumPy, so pages can do it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from leukodash.atomic_write import replacing
from leukodash.bounded_read import DamagedError, read_bounded
from leukodash.errors import RunError

FILE = "novelty.npz"
DIRECTIONS = 32
ACCEPTED = 0.99  # share of validation cells within the limit; of new subjects' cells, which differ, it is about 95%
TRAINING_CELLS = 1000  # used to fit; 3,000 give the same results
MOST_BYTES = 100_000_000  # of the arrays in a file
DAMAGE = (DamagedError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
MIN_VARIANCE = 1e-8  # of features of length 1; avoids division by zero if a network gives all cells the same features


@dataclass(frozen=True, eq=False)
class Novelty:
    """A Gaussian model of the training cells' features; made by `fit` or `load`.

    Attributes:
        mean: float32 (d,), mean of the features scaled to length 1.
        directions: float16 (d, k), the first principal directions, of length 1; k is at most `DIRECTIONS`.
        spread: float64 (k,), variance along each of these directions.
        rest: variance along every other direction.
        limit: an image with a higher score is unlike the training cells. `ACCEPTED` of the validation cells, which were
            not used to fit the model, score at most this.
    """

    mean: np.ndarray
    directions: np.ndarray
    spread: np.ndarray
    rest: float
    limit: float

    @classmethod
    def fit(cls, training: np.ndarray, validation: np.ndarray) -> Novelty:
        """Fit to pooled features of training cells (n, d), and set the limit on those of validation cells (m, d)."""
        fitted = cls._model(training)
        return fitted._limited(fitted.score(validation))

    @classmethod
    def fit_in_turn(cls, training: np.ndarray, fold: np.ndarray) -> Novelty:
        """Fit to pooled features of training cells (n, d), and set the limit on them while they were held out.

        Args:
            training: float (n, d).
            fold: int (n,): the cells of one number are scored by a model of the others.
        """
        scores = [cls._model(training[fold != number]).score(training[fold == number]) for number in np.unique(fold)]
        return cls._model(training)._limited(np.concatenate(scores))

    def _limited(self, scores: np.ndarray) -> Novelty:
        return replace(self, limit=float(np.quantile(scores, ACCEPTED)))

    @classmethod
    def _model(cls, training: np.ndarray) -> Novelty:
        """Fit to features of training cells (n, d), without a limit."""
        from sklearn.utils.extmath import randomized_svd  # takes a second to import; scoring does not need it
        from threadpoolctl import threadpool_limits

        training = _unit(training)
        n, d = training.shape
        mean = training.mean(axis=0).astype(np.float32)
        k = max(1, min(DIRECTIONS, n // 8, d - 1))  # further directions of few cells are noise
        with threadpool_limits(1):  # on a busy machine, several threads take 10 s instead of 0.2 s
            directions = randomized_svd(training - mean, k, random_state=0)[2].T.astype(np.float16)
        # Variances and limit are computed with the rounded directions, as they are stored.
        along, across = _split(training - mean, directions)
        spread = np.maximum((along**2).mean(axis=0), MIN_VARIANCE)
        rest = max(float(across.mean()) / (d - k), MIN_VARIANCE)
        return cls(mean, directions, spread, rest, np.inf)

    def score(self, pooled: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of each image from the training cells: float64 (n,), 0 or more.

        Args:
            pooled: outputs of the layer ``pool``: float (n, d), or (n, positions · d) for flattened feature maps. If
                they contain NaN or infinity, the score is infinite.
        """
        along, across = _split(_unit(mean_over_positions(pooled, len(self.mean))) - self.mean, self.directions)
        squared = (along**2 / self.spread).sum(axis=1) + across / self.rest
        return np.sqrt(np.where(np.isnan(squared), np.inf, squared))

    def save(self, folder: Path) -> None:
        """Write ``novelty.npz`` into a run's folder atomically. The same fit gives the same bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        with replacing(folder / FILE) as temporary:
            temporary.write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Novelty | None:
        """Read the model that `save` wrote; None if the file is missing, as in old or imported runs.

        Raises RunError if the file is damaged.
        """
        if not (folder / FILE).exists():
            return None
        try:
            content = io.BytesIO(read_bounded(folder / FILE, MOST_BYTES))
            with zipfile.ZipFile(content) as packed:
                if sum(member.file_size for member in packed.infolist()) > MOST_BYTES:
                    raise ValueError("too large")
            with np.load(content) as stored:
                arrays = {field.name: stored[field.name] for field in fields(cls)}
            made = cls(**{**arrays, "rest": arrays["rest"].item(), "limit": arrays["limit"].item()})
            _check(made)
        except DAMAGE as error:
            raise RunError(
                f"'{FILE}' of '{folder.name}' cannot be read, so images of other things could not be detected. "
                "Train the run again, or delete the file to use the run without this check."
            ) from error
        return made


def _check(made: Novelty) -> None:
    """Raise ValueError unless the arrays fit together and hold numbers."""
    d, k = len(made.mean), len(made.spread)
    if made.mean.shape != (d,) or made.spread.shape != (k,) or made.directions.shape != (d, k):
        raise ValueError("the arrays do not fit together")
    for values in (made.mean, made.directions, made.spread, np.array([made.rest, made.limit])):
        if values.dtype.kind != "f" or np.isnan(values).any():
            raise ValueError("a value is not a number")
    if min(made.rest, *made.spread) <= 0:
        raise ValueError("a variance is not positive")


def mean_over_positions(pooled: np.ndarray, channels: int) -> np.ndarray:
    """Average flattened feature maps (n, positions · channels) to (n, channels); return other outputs unchanged."""
    return pooled if pooled.shape[1] == channels else pooled.reshape(len(pooled), -1, channels).mean(axis=1)


def _unit(features: np.ndarray) -> np.ndarray:
    """Scale each row to length 1, as brightness changes the length of the features. Zeros stay zeros."""
    features = np.asarray(features, np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return features / np.where(length == 0, 1, length)


def _split(centered: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates along the directions, (n, k), and the squared length of the remainder, (n,)."""
    along = centered @ directions.astype(np.float64)
    return along, np.maximum((centered**2).sum(axis=1) - (along**2).sum(axis=1), 0)
