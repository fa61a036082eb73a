"""What the suffix is fed with: stored features where there is a frozen prefix, pixels where there is none."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.views import VIEWS, view
from leukodash.training.augmentation import augment
from leukodash.training.feature_store import Features, release

HELD_BYTES = 128 * 2**20  # of stored features or pixels that may be read before their pages are handed back

Step = tuple[np.ndarray | list[np.ndarray], np.ndarray, np.ndarray]


class Batches:
    """The suffix's inputs: stored features where there is a prefix, pixels where there is none."""

    def __init__(
        self, config: RunConfig, features: Features | None, cells: np.ndarray | None, dataset: Dataset, part: pd.Series
    ) -> None:
        self.config, self.features, self.cells = config, features, cells
        self._read = 0
        self.rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
        codes = pd.Categorical(dataset.cells["label"], categories=list(dataset.classes)).codes
        self.codes = np.asarray(codes, dtype=np.int64)
        self.one_hot = np.eye(config.outputs or len(dataset.classes), dtype=np.float32)[self.codes]
        self.weight = np.ones(len(dataset.classes), np.float32)
        if config.class_weights:  # scikit-learn's "balanced": n / (classes · n of the class)
            counts = np.bincount(self.codes[self.rows["train"]], minlength=len(dataset.classes))
            self.weight = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)

    def inputs(self, rows: np.ndarray, number: int = 0) -> np.ndarray | list[np.ndarray]:
        """Return the inputs of some cells, all in one view (the first is as they are), for evaluation."""
        if self.features is None:
            return self._counted(np.ascontiguousarray(view(self.cells[rows], number)))
        return self._counted(self.features.batch(rows, np.full(len(rows), number)))

    def steps(self) -> int:
        """Number of training steps in an epoch."""
        return math.ceil(len(self.rows["train"]) / self.config.batch_size)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """Yield (inputs, one-hot labels, sample weights) of an epoch's steps, in an order of its own."""
        rng = np.random.default_rng([self.config.seed, epoch])
        order = rng.permutation(self.rows["train"])
        views = rng.choice(len(VIEWS[self.config.flips]), len(order)) if self.config.flips != "none" else None
        size = self.config.batch_size

        def batch(step: int) -> Step:
            here = slice(step * size, (step + 1) * size)
            rows, turned = order[here], None if views is None else views[here]
            if self.features is None:
                inputs = augment(self.cells[rows], turned, self.config, [self.config.seed, epoch, step])
            else:
                inputs = self.features.batch(rows, turned)
            return self._counted(inputs), self.one_hot[rows], self.weight[self.codes[rows]]

        with ThreadPoolExecutor(1) as pool:  # the next batch is made while the last one is learnt from
            ahead = pool.submit(batch, first_step)
            for step in range(first_step, self.steps()):
                ready = ahead.result()
                if step + 1 < self.steps():
                    ahead = pool.submit(batch, step + 1)
                yield ready

    def _counted(self, inputs: np.ndarray | list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
        """Hand pages back now and then: features of a whole block are gigabytes, and would all come to be held."""
        self._read += sum(tensor.nbytes for tensor in (inputs if isinstance(inputs, list) else [inputs]))
        if self._read > HELD_BYTES:
            self.release()
        return inputs

    def release(self) -> None:
        """Give the pages that were read back to the system."""
        self._read = 0
        if self.features is None:
            release(self.cells)
        else:
            self.features.release()
