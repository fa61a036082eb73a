"""Temperature scaling: one number that calibrates a network's probabilities (Guo et al. 2017).

Networks tend to be overconfident. Dividing all logits by one temperature, chosen on the validation cells, corrects most
of that without changing how the cells are ranked. The log of a probability equals its logit up to a constant, which the
softmax cancels, so predictions.csv is enough and no network has to run.
"""

from dataclasses import dataclass

import numpy as np
import scipy

MIN_CELLS = 30  # with fewer, a single mistake changes the temperature by a quarter or more
BOUNDS = (0.2, 10.0)
MIN_PROBABILITY = 1e-7  # the last digit of predictions.csv, which stores anything smaller as 0


@dataclass(frozen=True)
class Temperature:
    """The number that a run's logits are divided by.

    Attributes:
        value: above 1 if the network is overconfident, below 1 if it is underconfident; 1 changes nothing.
        note: the reason if the value was not fitted or stopped at a bound, else "".
    """

    value: float = 1.0
    note: str = ""

    def scale(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probabilities at this temperature: float64 of shape (..., K), each row summing to one."""
        if self.value == 1:
            return np.asarray(probabilities, dtype=np.float64)
        return scipy.special.softmax(_log(probabilities) / self.value, axis=-1)


def fit_temperature(probabilities: np.ndarray, codes: np.ndarray) -> Temperature:
    """Return the temperature that minimizes the negative log-likelihood of the validation cells.

    The mean negative log-likelihood has a single minimum, which is searched within `BOUNDS` (Guo et al. 2017,
    equation 9). If every cell is classified correctly, the minimum is at temperature 0, where all probabilities are 0
    or 1. In that case, and for fewer than `MIN_CELLS` cells, the temperature stays at 1.

    Args:
        probabilities: float array of shape (n, K), 0..1, rows summing to one.
        codes: int array of shape (n,): the column of each cell's true class.
    """
    codes = np.asarray(codes, dtype=int)
    if len(codes) < MIN_CELLS:
        return Temperature(note=f"only {len(codes)} validation cells, too few to calibrate on")
    logits = _log(probabilities)
    if (logits.argmax(axis=1) == codes).all():
        return Temperature(note=f"all {len(codes):,} validation cells are correct, so there is nothing to fit")
    rows = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        return -float(scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)[rows, codes].mean())

    low, high = np.log(BOUNDS)
    best = scipy.optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x
    if best > high - 1e-3:
        return Temperature(BOUNDS[1], "no better than chance on validation: the temperature is at its upper bound")
    if best < low + 1e-3:
        return Temperature(BOUNDS[0], "nearly all validation cells are correct: the temperature is at its lower bound")
    return Temperature(float(np.exp(best)))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), MIN_PROBABILITY))
