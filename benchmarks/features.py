"""Features per second: the frozen prefix over real cells, LeukoDash's way against ``model.predict`` in float32.

Both take decoded cells from memory and end with pooled features; LeukoDash's side also writes its store to the disk.
Each is run once over some cells to warm up. The two sides take turns, three times each, and the medians are compared.
The program that pages classify with (`models.program`) takes its turn too.
"""

import os
import statistics
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.harness import RECIPE, Options, some_cells
from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store
from leukodash.models.build import build, split_model
from leukodash.models.program import load_program, pooled_features, write_program
from leukodash.models.weights import find_weights
from leukodash.training.feature_store import compute_features
from leukodash.training.precision import choose_precision

CELLS, TURNS = 256, 3
NETWORKS, QUICK = ("mobilenet", "googlenet", "resnet50", "vgg16"), ("mobilenet", "googlenet", "resnet50")
WARM = 64


def compare(backbone: str, cells: np.ndarray, dataset: object, folder: Path) -> dict:
    """Measure both sides for one backbone: images per second and their ratio."""
    config = make_config("quick", backbone, dataset, **RECIPE)
    precision = choose_precision("auto", config.spec, "cpu-0", lambda: 1.0)
    model = build(config, 2, find_weights(config.spec), precision)
    ours = split_model(model, "pool")[0]
    theirs = split_model(build(config, 2, find_weights(config.spec), "float32"), "pool")[0]
    for prefix in (ours, theirs):
        prefix.jit_compile = keras.backend.backend() == "jax"
    program = load_program(write_program(config.spec, model, config.weights_sha256 or ""))
    forward = pooled_features(program, config)
    seconds = {"LeukoDash": [], "predict": [], "program": []}

    def leukodash(number: int, turn: int) -> None:
        where = folder / f"{backbone}-{number}-{turn}"
        compute_features(ours, lambda: cells[:number], where, (0,), lambda *_: None, lambda *_: None)

    for turn in range(-1, TURNS):
        number = WARM if turn < 0 else len(cells)
        for name, side in (
            ("LeukoDash", lambda number=number, turn=turn: leukodash(number, turn)),
            ("predict", lambda number=number: theirs.predict(cells[:number], batch_size=32, verbose=0)),
            ("program", lambda number=number: forward(cells[:number], False)),
        ):
            since = time.perf_counter()
            side()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - since)
    rates = {name: len(cells) / statistics.median(times) for name, times in seconds.items()}
    return {"backbone": backbone, "precision": precision, **rates, "ratio": rates["LeukoDash"] / rates["predict"]}


def measure(options: Options) -> dict:
    """Compare the networks; returns a row each."""
    os.environ["LEUKODASH_CACHE"] = str(options.folder)
    dataset, rows = load_dataset(some_cells(options, CELLS)), []
    cells = np.array(cell_store(dataset, 224))
    for backbone in QUICK if options.quick else NETWORKS:
        rows.append(compare(backbone, cells, dataset, options.folder))
        print(rows[-1], flush=True)
    return {"cells": CELLS, "rows": rows}
