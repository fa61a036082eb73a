"""Temperature scaling: one number that makes a network's probabilities mean what they say (Guo et al. 2017).

Networks are as a rule surer than they are right. All logits divided by one temperature, chosen on validation cells,
mends most of that and changes no ranking of the cells. The logarithm of a probability is its logit but for a constant,
which the softmax takes out again: so predictions.csv is enough, and no network has to run.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

FEWEST = 30  # below this many cells a single mistake moves the temperature by a quarter and more
BOUNDS = (0.2, 10.0)
SMALLEST = 1e-7  # the last digit of predictions.csv, where 0 stands for anything less


@dataclass(frozen=True)
class Temperature:
    """What a run's logits are divided by.

    Attributes:
        value: above 1 where the network is too sure, below 1 where it is not sure enough; 1 changes nothing.
        note: a sentence where it could not be chosen freely, else "".
    """

    value: float = 1.0
    note: str = ""

    def scale(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probabilities at this temperature: float64 (..., K), each row sums to one."""
        if self.value == 1:
            return np.asarray(probabilities, dtype=np.float64)
        return _softmax(_log(probabilities) / self.value)


def fit_temperature(probabilities: np.ndarray, codes: np.ndarray) -> Temperature:
    """Choose the temperature at which the true classes of validation cells are likeliest.

    The mean negative log-likelihood, which has a single minimum, is minimised over the temperature between `BOUNDS`
    (Guo et al. 2017, equation 9). Cells that are all called right would take it to zero, and probabilities with it to
    0 and 1, however few they are: then, and for fewer than `FEWEST` cells, it stays at 1.

    Args:
        probabilities: float (n, K), 0 to 1, rows that sum to one.
        codes: int (n,), the true class of each cell, as the number of its column.
    """
    codes = np.asarray(codes, dtype=int)
    if len(codes) < FEWEST:
        return Temperature(note=f"only {len(codes)} validation cells, too few to calibrate on")
    logits = _log(probabilities)
    if (logits.argmax(axis=1) == codes).all():
        return Temperature(note=f"all {len(codes):,} validation cells are right, so none says how sure is too sure")
    place = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[place, codes]))

    low, high = np.log(BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x
    if found > high - 1e-3:
        return Temperature(BOUNDS[1], "no better than chance on validation, so probabilities are drawn close together")
    if found < low + 1e-3:
        return Temperature(BOUNDS[0], "nearly all validation cells are right, so the temperature stops at its bound")
    return Temperature(float(np.exp(found)))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), SMALLEST))


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
