"""The other side of the engine's comparison: the same training, written as usual. One process, one measurement.

``files`` is plain Keras: every image is read and decoded again in every epoch and goes through the whole network.
``cached`` is a well-tuned peer: ``tf.data``, decoded once, cached in memory, prefetched. Both in float32.
`benchmarks.engine` starts it with its task as JSON. Prints JSON: seconds of the start (imports, network, weights) and
of each epoch, validation included.
"""

import json
import math
import sys
import time

START = time.perf_counter()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import tensorflow as tf  # noqa: E402

from leukodash.config.presets import make_config  # noqa: E402
from leukodash.data.dataset import load_dataset  # noqa: E402
from leukodash.data.images import read_image, square  # noqa: E402
from leukodash.models.build import build  # noqa: E402
from leukodash.models.weights import find_weights  # noqa: E402

BATCH = 32


class Files(keras.utils.PyDataset):
    """Cells read from their files at every look, as Keras' ImageDataGenerator does."""

    def __init__(self, paths: list, labels: np.ndarray, size: int) -> None:
        super().__init__()
        self.paths, self.labels, self.size = paths, labels, size

    def __len__(self) -> int:
        return math.ceil(len(self.paths) / BATCH)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        here = slice(step * BATCH, (step + 1) * BATCH)
        images = np.stack([square(read_image(path), self.size) for path in self.paths[here]])
        return images.astype(np.float32), self.labels[here]


def cached(paths: list, labels: np.ndarray, size: int, shuffle: bool) -> tf.data.Dataset:
    """Cells decoded once into memory, shuffled and prefetched by ``tf.data``."""
    images = np.stack([square(read_image(path), size) for path in paths])
    data = tf.data.Dataset.from_tensor_slices((images, labels)).cache()
    data = data.shuffle(len(paths)) if shuffle else data
    return data.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def main() -> None:
    """Measure two epochs, and print JSON."""
    task = json.loads(sys.argv[1])
    dataset = load_dataset(task["data"])
    config = make_config("quick", task["backbone"], dataset, **task["recipe"])
    model = build(config, 2, find_weights(config.spec))
    sgd = keras.optimizers.SGD(config.learning_rate, momentum=config.momentum)
    optimizer = sgd if config.optimizer == "sgd" else keras.optimizers.Adam(config.learning_rate)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    split = pd.read_csv(task["split"], dtype=str)
    one_hot = np.eye(2, dtype=np.float32)[(split["label"] != "all").to_numpy().astype(int)]

    def cells(part: str) -> tuple[list, np.ndarray]:
        rows = np.flatnonzero(split["part"] == part)
        return [dataset.root / split["file"][row] for row in rows], one_hot[rows]

    if task["way"] == "files":
        train, validation = (Files(*cells(part), config.input_size) for part in ("train", "validation"))
    else:
        train = cached(*cells("train"), config.input_size, shuffle=True)
        validation = cached(*cells("validation"), config.input_size, shuffle=False)
    started = time.perf_counter() - START
    seconds = []
    for _ in range(2):
        since = time.perf_counter()
        model.fit(train, validation_data=validation, epochs=1, verbose=0)
        seconds.append(time.perf_counter() - since)
    print(json.dumps({"start": started, "epochs": seconds}))


if __name__ == "__main__":
    main()
