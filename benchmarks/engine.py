"""A frozen backbone and a new head, 100 epochs on 1,000 cells: LeukoDash against plain Keras and against a tuned peer.

All on the same cells, in the same split, one after the other on the same machine. The other sides are measured on two
epochs and scaled (start + epochs × the faster of the two). LeukoDash is measured whole, from the start of its process
to its results, with an empty cache (first), and with a filled one and another seed (second).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import RECIPE, Options, metrics, some_cells, train

CELLS, SEEDS = 1000, 3
NETWORKS, QUICK = ("mobilenet", "googlenet", "resnet50", "vgg16"), ("mobilenet", "googlenet")


def other_side(way: str, data: Path, run: Path, backbone: str, recipe: dict[str, Any]) -> float:
    """Measure two epochs of the other side in a process of its own; returns the seconds that all epochs would take."""
    task = {"way": way, "data": str(data), "split": str(run / "split.csv"), "backbone": backbone, "recipe": recipe}
    command = [sys.executable, "-m", "benchmarks.plain", json.dumps(task)]
    shown = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    measured = json.loads(shown.stdout.splitlines()[-1])
    return measured["start"] + recipe["epochs"] * min(measured["epochs"])


def compare(options: Options, data: Path, backbone: str, recipe: dict[str, Any], seeds: int = 0) -> dict[str, Any]:
    """Measure all sides for one backbone; seconds, and the accuracies of some seeds in both precisions."""
    folder = options.folder / f"{backbone}-{len(list(options.folder.iterdir()))}"

    def ours(**more: Any) -> tuple[float, Path]:
        return train(data, backbone, recipe | more, folder / "cache", folder / "checkpoints")

    first, run = ours()
    second, again = ours(seed=1)
    precision = json.loads((run / "model.json").read_bytes())["precision"]
    row = {"backbone": backbone, "precision": precision, "first": first, "second": second}
    if precision != "float32":
        row["first in float32"], exact = ours(precision="float32")
        if seeds:
            short = [run, again, *(ours(seed=seed)[1] for seed in range(2, seeds))]
            full = [exact, *(ours(seed=seed, precision="float32")[1] for seed in range(1, seeds))]
            accuracies = [[metrics(one)["accuracy"] for one in runs] for runs in (short, full)]
            row["accuracy by seed"] = dict(zip((precision, "float32"), accuracies, strict=True))
    row |= {way: other_side(way, data, run, backbone, recipe) for way in ("files", "cached")}
    print({name: value for name, value in row.items() if name != "accuracy by seed"}, flush=True)
    return row


def measure(options: Options) -> dict[str, Any]:
    """Compare the networks; returns a row each."""
    data = some_cells(options, CELLS)
    rows = [compare(options, data, name, RECIPE, 0 if options.quick else SEEDS)
            for name in (QUICK if options.quick else NETWORKS)]  # fmt: skip
    return {"cells": CELLS, "epochs": RECIPE["epochs"], "real cells": options.data is not None, "rows": rows}
