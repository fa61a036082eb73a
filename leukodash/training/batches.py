"""The inputs of the suffix: stored features if the network has a frozen prefix, else pixels."""

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

HELD_BYTES = 128 * 2**20  # of stored features or pixels that may be read before their pages are released

Inputs = np.ndarray | list[np.ndarray]
Step = tuple[Inputs, np.ndarray, np.ndarray]


class Batches:
    """Serves the inputs, labels and sample weights of a run.

    Args:
        config: the settings that are trained.
        source: stored features, or the pixels of all cells, uint8 (n, size, size, 3).
        dataset: the cells.
        part: the part of each cell.
    """

    def __init__(self, config: RunConfig, source: Features | np.ndarray, dataset: Dataset, part: pd.Series) -> None:
        self.config, self.source = config, source
        self._read = 0
        self.rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
        codes = pd.Categorical(dataset.cells["label"], categories=list(dataset.classes)).codes
        self.codes = np.asarray(codes, dtype=np.int64)
        self.one_hot = np.eye(config.outputs or len(dataset.classes), dtype=np.float32)[self.codes]
        self.weight = np.ones(len(dataset.classes), np.float32)
        if config.class_weights:  # scikit-learn's "balanced": n / (classes · n of the class)
            counts = np.bincount(self.codes[self.rows["train"]], minlength=len(dataset.classes))
            self.weight = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)

    def inputs(self, rows: np.ndarray, number: int = 0) -> Inputs:
        """Return the inputs of some cells, all in one view (the first leaves them unchanged), for evaluation."""
        if isinstance(self.source, Features):
            return self._counted(self.source.batch(rows, np.full(len(rows), number)))
        return self._counted(np.ascontiguousarray(view(self.source[rows], number)))

    def steps(self) -> int:
        """Return the number of training steps in an epoch."""
        return math.ceil(len(self.rows["train"]) / self.config.batch_size)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """Yield (inputs, one-hot labels, sample weights) of an epoch's steps, in an order of its own."""
        rng = np.random.default_rng([self.config.seed, epoch])
        order = rng.permutation(self.rows["train"])
        views = rng.choice(len(VIEWS[self.config.flips]), len(order)) if self.config.flips != "none" else None
        size = self.config.batch_size

        def batch(step: int) -> Step:
            inputs: Inputs
            here = slice(step * size, (step + 1) * size)
            rows, turned = order[here], None if views is None else views[here]
            if isinstance(self.source, Features):
                inputs = self.source.batch(rows, turned)
            else:
                inputs = augment(self.source[rows], turned, self.config, [self.config.seed, epoch, step])
            return self._counted(inputs), self.one_hot[rows], self.weight[self.codes[rows]]

        with ThreadPoolExecutor(1) as pool:  # prepares the next batch during the training step
            ahead = pool.submit(batch, first_step)
            for step in range(first_step, self.steps()):
                ready = ahead.result()
                if step + 1 < self.steps():
                    ahead = pool.submit(batch, step + 1)
                yield ready

    def _counted(self, inputs: Inputs) -> Inputs:
        """Release pages every `HELD_BYTES`: features of a whole block are gigabytes and would all stay in memory."""
        self._read += sum(tensor.nbytes for tensor in (inputs if isinstance(inputs, list) else [inputs]))
        if self._read > HELD_BYTES:
            self.release()
        return inputs

    def release(self) -> None:
        """Return the pages that were read to the system."""
        self._read = 0
        if isinstance(self.source, Features):
            self.source.release()
        else:
            release(self.source)
