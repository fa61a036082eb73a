"""Networks whose trained part is a head over averages of frozen feature maps: class and heat maps without gradients.

The score of a class is a function of averages of feature maps. Its derivative by a map is the same at every position,
and the head's alone, so that one forward pass of the frozen layers gives class and heat map. For a head with one layer,
the *evidence* adds up to the score (Zhou et al. 2016, *Learning deep features for discriminative localization*).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from leukodash.cam.gradient_result import PREDICTED, GradientResult
from leukodash.models.head import Head, head_of
from leukodash.models.program import Forward, block_outputs

if TYPE_CHECKING:
    import keras

    from leukodash.config.run_config import RunConfig


class PooledNetwork:
    """A frozen backbone and a head over its pooled feature maps.

    Args:
        forward: the frozen part.
        head: returns the present head.
        classes: number of classes; logits beyond them are never the predicted class.
    """

    def __init__(self, forward: Forward, head: Callable[[], Head], classes: int) -> None:
        self._forward, self._head, self._classes = forward, head, classes

    @property
    def head(self) -> Head:
        """The present head."""
        return self._head()

    def logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and pooled features of float32 images (n, size, size, 3), RGB 0 to 255."""
        pooled, _ = self._forward(images, False)
        return self._head().logits(pooled), pooled

    def gradients(self, images: np.ndarray, target: np.ndarray) -> GradientResult:
        """Return the last feature maps and the gradients of a class logit, as `GradientModel.gradients` does.

        Args:
            images: as for `logits`.
            target: int (n,), the class whose logit is differentiated; `PREDICTED` for each image's predicted class.
        """
        pooled, maps = self._forward(images, True)
        head, last = self._head(), maps[-1]
        logits = head.logits(pooled)
        weights = head.gradients(pooled, _one_hot(logits, target, self._classes))[:, -last.shape[-1] :]
        per_position = weights[:, None, None, :] / np.float32(last.shape[1] * last.shape[2])
        return GradientResult(
            logits, last, np.broadcast_to(per_position, last.shape), pooled, self._sum(pooled, maps, logits, target)
        )

    def _sum(self, pooled: np.ndarray, maps: list[np.ndarray], logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the evidence of every block for a class and against the others, float32 (n, h, w).

        The mean over all positions is the score without the constants of the head. Maps are brought to the resolution
        of the largest one in such a way that this stays true.
        """
        chosen = _one_hot(logits, target, self._classes)
        others = np.zeros_like(chosen)
        others[:, : self._classes] = (1 - chosen[:, : self._classes]) / max(1, self._classes - 1)
        weights = self._head().gradients(pooled, chosen - others)
        height, width = maps[0].shape[1:3]
        total, start = np.zeros((len(pooled), height, width), np.float32), 0
        for block in maps:
            end = start + block.shape[-1]
            evidence = np.einsum("nhwc,nc->nhw", block, weights[:, start:end])
            total += np.stack([_enlarge(each, height, width) for each in evidence])
            start = end
        return total


def keras_forward(model: keras.Model, config: RunConfig) -> Forward:
    """Return the frozen part of a run, as its Keras model computes it."""
    import keras

    ends = block_outputs(config.spec, model)
    outputs = ends if config.pooling == "blocks" else ends[-1:]
    pool = model.get_layer("pool").output
    parts = {False: keras.Model(model.input, pool), True: keras.Model(model.input, [pool, *outputs])}
    for part in parts.values():
        # Where the GPU is hidden, Keras would compile with XLA for the CPU, which takes seconds.
        part.jit_compile = keras.backend.backend() == "jax"

    def forward(images: np.ndarray, wanted: bool) -> tuple[np.ndarray, list[np.ndarray]]:
        # The compiled step of training: its outputs equal the stored features to the bit, in bfloat16 too.
        values = parts[wanted].predict_on_batch(images)
        pooled, *maps = values if wanted else [values]
        return np.asarray(pooled, np.float32), [np.asarray(each, np.float32) for each in maps]

    return forward


def keras_network(model: keras.Model, config: RunConfig, classes: int) -> PooledNetwork:
    """Return the network of a run's Keras model, which follows changes of its weights."""
    return PooledNetwork(keras_forward(model, config), lambda: head_of(model), classes)


def _one_hot(logits: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Return float32 (n, units): 1 for the target of each image, by default the predicted class."""
    explained = np.where(target == PREDICTED, logits[:, :classes].argmax(axis=1), target)
    return np.eye(logits.shape[1], dtype=np.float32)[explained]


def _enlarge(evidence: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring a map to a larger size without changing its mean."""
    if evidence.shape == (height, width):
        return evidence
    larger = cv2.resize(evidence, (width, height), interpolation=cv2.INTER_LINEAR)
    return larger + (evidence.mean() - larger.mean())
