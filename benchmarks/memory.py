"""Peak memory of a training process, and how time and memory grow with the number of cells.

Real cells are repeated under new names until there are enough of them; C-NMC's training set has 10,661. Each run is a
process of its own with an empty cache: its peak is what the system counted for it (resident set, the memory maps of
its stores included).
"""

import os
import shutil
from pathlib import Path

from benchmarks.harness import RECIPE, Options, metrics, train
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.models.backbones import BACKBONES

NETWORKS, CELLS = ("alexnet", "googlenet", "mobilenet", "resnet50", "vgg16"), (1000, 3000, 10_661)


def repeated(source: Path, folder: Path, number: int) -> Path:
    """Link the cells of a data set, under new names, until there are that many; returns the folder."""
    files = [(source / file, label) for file, label in load_dataset(source).cells[["file", "label"]].itertuples(False)]
    for label in ("all", "hem"):
        (folder / label).mkdir(parents=True)
    for count in range(number):
        file, label = files[count * 7919 % len(files)]  # a prime step: a mix of both classes from the first on
        copy = folder / label / f"{count:06}{file.suffix}"
        try:
            os.link(file, copy)
        except OSError:  # another disk
            shutil.copy(file, copy)
    return folder


def peak(data: Path, backbone: str, part: str, folder: Path) -> dict:
    """Train one run from an empty cache; returns its peak in bytes and the seconds of its stages."""
    start = "head" if part == "head" else BACKBONES[backbone].blocks[-1].name
    recipe = RECIPE | {"epochs": 1, "train_from": start}
    _, run = train(data, backbone, recipe, folder / "cache", folder / "checkpoints")
    shutil.rmtree(folder / "cache")
    found = metrics(run)
    return {"trained": part, "peak bytes": found["memory_bytes"], "seconds": found["seconds"]}


def measure(options: Options) -> dict:
    """Measure the networks at C-NMC's size, and two of them on fewer cells; returns a row a run."""
    source, rows = options.data or make_demo(options.folder / "demo"), []
    for number in CELLS[:1] if options.quick else CELLS:
        data = repeated(source, options.folder / f"cells-{number}", number)
        for backbone in ("mobilenet",) if options.quick else NETWORKS if number == CELLS[-1] else NETWORKS[1:3]:
            for part in ("head", "last block") if options.quick or number == CELLS[-1] else ("head",):
                rows.append({"backbone": backbone, "cells": number} | peak(data, backbone, part, options.folder))
                print(rows[-1], flush=True)
    return {"rows": rows}
