"""What a pass through a network gives to the heat maps. Imports no Keras."""

from typing import NamedTuple

import numpy as np

PREDICTED = -1  # as a target: the class that the network predicts


class GradientResult(NamedTuple):
    """Result of one forward and one backward pass over n images; all float32, whatever the network's precision.

    Attributes:
        logits: (n, units).
        activations: (n, h, w, channels), the layer's feature maps.
        gradients: (n, h, w, channels), of the target's logit with respect to the activations.
        pooled: (n, features), output of the layer ``pool``.
        evidence: (n, h, w), the evidence of all pooled blocks for the target and against the other classes; None for
            networks that trained more than a head over pooled maps.
    """

    logits: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    pooled: np.ndarray
    evidence: np.ndarray | None = None
