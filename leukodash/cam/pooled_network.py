"""Networks whose trained part is a head over pooled frozen feature maps: class and heat maps without gradients.

The score of a class is a function of the pooled maps, so its derivative by a map follows from the head and the pooling
alone, and one forward pass of the frozen layers gives class and heat map. For a head with one layer, the *evidence*
adds up to the score (Zhou et al. 2016, *Learning deep features for discriminative localization*), over all blocks and,
where standard deviations are pooled too, with their share of each position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from leukodash.cam.gradient_result import PREDICTED, GradientResult
from leukodash.models.backbones import EVERY_BLOCK
from leukodash.models.head import Head, head_of
from leukodash.models.pooling import Pooling, averaging, cell_mask, pool
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
        over_cell: whether maps are pooled over the cell, and not over the whole picture.
    """

    def __init__(self, forward: Forward, head: Callable[[], Head], classes: int, over_cell: bool = False) -> None:
        self._forward, self._head, self._classes, self._over_cell = forward, head, classes, over_cell

    @property
    def head(self) -> Head:
        """The present head."""
        return self._head()

    def direction(self, logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the weights of the logits in a score, a class against the mean of the others: float32 (n, units).

        Args:
            logits: float (n, units).
            target: int (n,), the class; `PREDICTED` for each image's predicted class.
        """
        chosen = _one_hot(logits, target, self._classes)
        others = np.zeros_like(chosen)
        others[:, : self._classes] = (1 - chosen[:, : self._classes]) / max(1, self._classes - 1)
        return chosen - others

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
        _, maps = self._forward(images, True)
        head, last = self._head(), maps[-1]
        mask = cell_mask(images) if self._over_cell else None
        blocks = [pool(block, mask) for block in maps]
        pooled = np.concatenate([block.pooled for block in blocks], axis=1)  # to the last digit those of the evidence
        logits = head.logits(pooled)
        slopes = head.gradients(pooled, _one_hot(logits, target, self._classes))[:, -blocks[-1].pooled.shape[1] :]
        evidence = self._sum(pooled, blocks, logits, target, mask)
        return GradientResult(logits, last, blocks[-1].gradients(slopes), pooled, evidence)

    def _sum(
        self,
        pooled: np.ndarray,
        blocks: list[Pooling],
        logits: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
    ) -> np.ndarray:
        """Return the evidence of every block for a class and against the others, float32 (n, h, w).

        The mean over all positions is the score without the constants of the head. What a position of a small map adds
        is spread over the positions of the largest map that it covers: evenly, or by how much of the cell they show.
        """
        slopes = self._head().gradients(pooled, self.direction(logits, target))
        parts, start = [], 0
        for block in blocks:
            end = start + block.pooled.shape[1]
            parts.append(block.evidence(slopes[:, start:end]))
            start = end
        height, width = parts[0].shape[1:]
        weight = np.ones((1, height, width), np.float32)
        if mask is not None:
            weight = averaging(mask.shape[1], height) @ mask @ averaging(mask.shape[2], width).T
        return np.sum([_spread(part, weight) for part in parts], axis=0) * (height * width)


def keras_forward(model: keras.Model, config: RunConfig) -> Forward:
    """Return the frozen part of a run, as its Keras model computes it."""
    import keras

    ends = block_outputs(config.spec, model)
    outputs = ends if config.pooling in EVERY_BLOCK else ends[-1:]
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
    over_cell = config.pooling == "cell"
    return PooledNetwork(keras_forward(model, config), lambda: head_of(model), classes, over_cell)


def _one_hot(logits: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Return float32 (n, units): 1 for the target of each image, by default the predicted class."""
    explained = np.where(target == PREDICTED, logits[:, :classes].argmax(axis=1), target)
    return np.eye(logits.shape[1], dtype=np.float32)[explained]


def _spread(evidence: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Spread what each position of a map adds, (n, h, w), over a larger map, in proportion to a weight (n, H, W).

    The sum stays the same, and nothing lies where the weight is zero.
    """
    rows, columns = (averaging(weight.shape[axis], evidence.shape[axis]) for axis in (1, 2))
    covered = np.broadcast_to(rows @ weight @ columns.T, evidence.shape)
    each = np.divide(evidence, covered, out=np.zeros_like(evidence), where=covered > 0)
    return weight * (rows.T @ each @ columns)
