"""The comparison of `benchmarks.engine` for other heads, and where training starts inside the network."""

from typing import Any

from benchmarks.engine import compare
from benchmarks.harness import RECIPE, Options, some_cells

SGD = {"optimizer": "sgd", "learning_rate": 1e-4}
CASES = {
    "MobileNet with Dhuri & Guinde's head of 2,048 units, SGD, 100 epochs": (
        "mobilenet", 1000, SGD | {"head": [0.5, 2048, 0.5]},
    ),
    "VGG16 with Dhuri & Guinde's head of 4,096, 4,096 and 2,048 units (137 million weights), SGD, 20 epochs of 200 "
    "cells": (
        "vgg16", 200, SGD | {"pooling": "flatten", "head": [4096, 4096, 0.5, 2048, 0.5], "epochs": 20},
    ),
    "VGG16 from its last block on, 5 epochs": ("vgg16", 1000, {"train_from": "block5", "epochs": 5}),
}  # fmt: skip


def measure(options: Options) -> dict[str, Any]:
    """Compare each case; returns a row each."""
    rows = []
    for words, (backbone, cells, settings) in CASES.items():
        rows.append({"training": words} | compare(options, some_cells(options, cells), backbone, RECIPE | settings))
    return {"rows": rows}
