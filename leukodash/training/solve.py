"""A linear head that is solved: L2 logistic regression on stored features, its penalty chosen on held-out subjects.

The features of the training cells are standardized exactly. Subjects are held out in turn (grouped cross-validation)
for each strength of the penalty, from strong to weak. The strength with the lowest cross-entropy over all held-out
cells is kept, and the head is fitted to all training cells with it. So every subject of the training part has a say in
what is chosen, and the answers to them while they were held out are the run's validation answers.

It takes seconds and has no seed, so a run that was killed starts this part again and ends the same.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy

STRENGTHS = tuple(float(f"{10 ** (place / 3):.2g}") for place in range(-15, 1))  # C: the inverse of the penalty
PATIENCE = 3  # steps without a lower cross-entropy after which weaker penalties are left out
FOLDS = 5
TOLERANCE, ITERATIONS = 1e-4, 500
JITTER = 1e-5  # of the mean of the diagonal, for features that depend on each other


@dataclass(frozen=True)
class Step:
    """The fits at one strength of the penalty.

    Attributes:
        strength: C, as in scikit-learn: the inverse of the penalty's weight.
        loss, accuracy: of the head that was fitted to all training cells, on them.
        held_out_loss, held_out_accuracy: over all training cells, each answered while its subject was held out.
        held_out: these answers, logits, float64 (n, classes).
        kernel, bias: of the head, for standardized features: float32 (d, classes) and (classes,).
        seconds: what the step took.
    """

    strength: float
    loss: float
    accuracy: float
    held_out_loss: float
    held_out_accuracy: float
    held_out: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    seconds: float


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of each feature, float32 (d,), of features (n, d)."""
    columns = np.array_split(features, 1 + features.shape[1] // 1024, axis=1)  # in double precision, a part at a time
    found = [(part.mean(axis=0, dtype=np.float64), part.var(axis=0, dtype=np.float64)) for part in columns]
    mean, variance = (np.concatenate(parts).astype(np.float32) for parts in zip(*found, strict=True))
    return mean, variance


def solve_path(
    features: np.ndarray, codes: np.ndarray, fold: np.ndarray, weight: np.ndarray, epsilon: float
) -> Iterator[Step]:
    """Solve the head for each of `STRENGTHS`, from the strongest penalty on, until weaker ones are worse for long.

    Args:
        features: float32 (n, d), of the training cells.
        codes: int (n,), their classes, 0 to K - 1.
        fold: int (n,), from `split.held_out_in_turn`: cells of one number are answered by a head without them.
        weight: float (n,), of each cell in the loss.
        epsilon: added to variances before dividing by their roots, as the network does.
    """
    since, everything = time.perf_counter(), np.ones(len(codes), bool)
    parts = [_Problem(features, codes, weight, fold != number, epsilon) for number in range(fold.max() + 1)]
    whole, losses = _Problem(features, codes, weight, everything, epsilon), list[float]()
    for strength in STRENGTHS:
        held_out = np.zeros((len(codes), int(codes.max()) + 1))
        for number, part in enumerate(parts):
            part.fit(strength)
            held_out[fold == number] = part.logits(fold == number)
        whole.fit(strength)
        loss, accuracy = _scores(whole.logits(everything), codes)
        held_out_loss, held_out_accuracy = _scores(held_out, codes)
        losses.append(held_out_loss)
        kernel, bias = whole.head()
        now = time.perf_counter()
        yield Step(strength, loss, accuracy, held_out_loss, held_out_accuracy, held_out, kernel, bias, now - since)
        if min(losses) < min(losses[-PATIENCE:]):
            break
        since = now


def _scores(logits: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Return the cross-entropy and the accuracy."""
    likelihood = scipy.special.log_softmax(logits, axis=1)[np.arange(len(codes)), codes]
    return float(-likelihood.mean()), float((logits.argmax(axis=1) == codes).mean())


class _Problem:
    """The logistic regression on some of the cells.

    With fewer cells than features it is solved in the space of the cells: the rows of a Cholesky factor of the Gram
    matrix have the same inner products as the features, so the solution is the same.
    """

    def __init__(
        self, features: np.ndarray, codes: np.ndarray, weight: np.ndarray, chosen: np.ndarray, epsilon: float
    ) -> None:
        from sklearn.linear_model import LogisticRegression

        self._features, self._chosen = features, chosen
        self._codes, self._weight = codes[chosen], weight[chosen]
        self._mean, variance = moments(features[chosen])
        self._deviation = np.sqrt(variance + np.float32(epsilon))
        self._model = LogisticRegression(warm_start=True, max_iter=ITERATIONS, tol=TOLERANCE)
        self._inputs, self._factor = (features[chosen] - self._mean) / self._deviation, None
        if len(self._inputs) < features.shape[1]:
            gram = (self._inputs @ self._inputs.T).astype(np.float64)
            gram.flat[:: len(gram) + 1] += JITTER * np.trace(gram) / len(gram)
            self._factor = np.linalg.cholesky(gram)
            self._inputs = self._factor.astype(np.float32)

    def fit(self, strength: float) -> None:
        """Fit, starting from the solution at the strength before."""
        self._model.C = strength
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that has not converged within the limit is as good as any
            self._model.fit(self._inputs, self._codes, sample_weight=self._weight)

    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel (d, classes) and the bias (classes,), for standardized features."""
        slopes, bias = self._model.coef_.astype(np.float64), self._model.intercept_.astype(np.float64)
        if self._factor is not None:  # from the space of the cells to that of the features
            dual = scipy.linalg.solve_triangular(self._factor, slopes.T, lower=True, trans="T")
            sums = (dual.T.astype(np.float32) @ self._features[self._chosen]).astype(np.float64)
            slopes = (sums - np.outer(dual.sum(axis=0), self._mean)) / self._deviation
        if len(slopes) == 1:  # two classes: half of the difference for each
            slopes, bias = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-bias, bias]) / 2
        return slopes.T.astype(np.float32), bias.astype(np.float32)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Return the logits of some cells by a mask (n,): float64 (m, classes)."""
        kernel, bias = self.head()
        kernel = kernel / self._deviation[:, None]
        return self._features[rows].astype(np.float32) @ kernel + (bias - self._mean @ kernel).astype(np.float64)
