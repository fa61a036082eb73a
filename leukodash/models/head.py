"""The head of a network over pooled feature maps, in NumPy: for pages, which do without Keras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from leukodash.bounded_read import DamagedError, check_bounded
from leukodash.errors import WeightsError
from leukodash.models.backbones import EVERY_BLOCK, HEAD, SCALED

if TYPE_CHECKING:
    import keras

    from leukodash.config.run_config import RunConfig

LOGITS = "logits"
MOST_BYTES = 4_000_000_000  # of trained layers
# What reading them raises, with what h5py does
DAMAGE = (DamagedError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError)
EPSILON = 1e-3  # of Keras' batch normalization, where the file does not say it


@dataclass(frozen=True)
class Head:
    """Dense layers over pooled features: ReLU between them, and none behind the last.

    Attributes:
        mean, deviation: float32 (features,), subtracted and divided by before the first layer; 0 and 1 without
            normalization.
        layers: kernel (in, out) and bias (out,) of each layer, float32; the last one gives the logits.
    """

    mean: np.ndarray
    deviation: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def logits(self, pooled: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (n, units), of pooled features, float32 (n, features)."""
        return self._run(pooled)[0]

    def gradients(self, pooled: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the gradients of weighted sums of the logits with respect to the features.

        Args:
            pooled: float32 (n, features).
            direction: float32 (n, units), the weight of each logit; one-hot for a single one.

        Returns:
            float32 (n, features). With one layer they do not depend on the features.
        """
        gradient = direction
        for (kernel, _), active in zip(reversed(self.layers), reversed(self._run(pooled)[1]), strict=True):
            gradient = (gradient * active) @ kernel.T
        return gradient / self.deviation

    def _run(self, pooled: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the logits, and for each layer which of its outputs the next layer sees: those that are not cut."""
        x, active = (pooled - self.mean) / self.deviation, []
        for number, (kernel, bias) in enumerate(self.layers, start=1):
            x = x @ kernel + bias
            active.append(x > 0 if number < len(self.layers) else np.ones_like(x, bool))
            x = x * active[-1]
        return x, active


def has_pooled_head(config: RunConfig) -> bool:
    """Whether a run trained nothing but a head over averages of frozen feature maps."""
    frozen = config.train_from == HEAD and config.weights == "imagenet" and config.batchnorm != "everywhere"
    return frozen and config.pooling in ("average", *EVERY_BLOCK)


def read_head(path: Path) -> Head:
    """Read the head of such a run from its ``trained.weights.h5``. Raises WeightsError if the file is damaged."""
    try:
        check_bounded(path, MOST_BYTES)
        with h5py.File(path, "r") as file:
            groups = sorted(file.items(), key=lambda item: int(item[0]))
            weights = {group.attrs["layer"]: [group[str(n)][()] for n in range(len(group))] for _, group in groups}
            epsilons = [float(group.attrs["epsilon"]) for _, group in groups if "epsilon" in group.attrs]
            head = _head(weights, *epsilons)
            _check(head)
            return head
    except DAMAGE as error:
        raise WeightsError(
            f"The trained layers in '{path.name}' of '{path.parent.name}' cannot be read. The run folder is "
            "incomplete: train the run again."
        ) from error


def head_of(model: keras.Model) -> Head:
    """Return the head of a flat model with its present weights."""
    names = [layer.name for layer in model.layers]
    layers = [layer for layer in model.layers[names.index("pool") :] if layer.weights]
    epsilons = [layer.epsilon for layer in layers if layer.name == SCALED]
    return _head({layer.name: layer.get_weights() for layer in layers}, *epsilons)


def _check(head: Head) -> None:
    """Raise ValueError unless each layer takes what the one before gives."""
    width = len(head.layers[0][0])
    if any(len(numbers) not in (1, width) for numbers in (head.mean, head.deviation)):
        raise ValueError("the normalization is of other features")
    for kernel, bias in head.layers:
        if kernel.shape != (width, len(bias)):
            raise ValueError("a layer does not take what the one before gives")
        width = len(bias)
    if not all(np.isfinite(numbers).all() for numbers in (head.mean, head.deviation, *sum(head.layers, ()))):
        raise ValueError("a weight is not a finite number")


def _head(weights: dict[str, list[np.ndarray]], epsilon: float = EPSILON) -> Head:
    """Return the head of these layers, in their order in the network."""
    mean, deviation = np.zeros(1, np.float32), np.ones(1, np.float32)
    if SCALED in weights:
        mean, variance = weights.pop(SCALED)
        deviation = np.sqrt(variance + np.float32(epsilon))
    layers = tuple((kernel, bias) for kernel, bias in weights.values())
    if LOGITS not in weights:
        raise ValueError(f"there is no layer '{LOGITS}'")
    return Head(mean, deviation, layers)


def class_probabilities(logits: np.ndarray, classes: int) -> np.ndarray:
    """Return the softmax over the classes, without output units beyond them (Mamaev 2023 has a third).

    Args:
        logits: (n, units), units ≥ classes.

    Returns:
        (n, classes); each row sums to one.
    """
    logits = logits[:, :classes]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
