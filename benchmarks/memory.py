"""Peak memory of a training process, and how time and memory grow with the number of cells.

    python -m benchmarks.memory [--data DIR] [--backbones NAME …] [--cells 1000 3000 10661] [--cuts head last]

Real cells are repeated under new names until there are enough of them; C-NMC's training set has 10,661. Each run is a
process of its own with an empty cache: its peak is what the system counted for it (resident set, the memory maps of
its stores included).
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.engine import leukodash, machine, write
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.models.backbones import BACKBONES


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


def measure(data: Path, backbone: str, cut: str, epochs: int, folder: Path) -> dict:
    """Train one run from an empty cache; returns its peak in bytes and the seconds of its stages."""
    cache = folder / "cache"
    environment = os.environ | {"LEUKODASH_CACHE": str(cache), "LEUKODASH_CHECKPOINTS": str(folder / "checkpoints")}
    name = "head" if cut == "head" else BACKBONES[backbone].blocks[-1].name
    _, run = leukodash(data, backbone, epochs, ["flips=none", "split.kind=image", f"train_from={name}"], environment)
    shutil.rmtree(cache)
    metrics = json.loads((run / "metrics.json").read_bytes())
    return {"cut": name, "peak bytes": metrics["memory_bytes"], "seconds": metrics["seconds"]}


def main() -> None:
    """Run all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a C-NMC folder; the generated cells without it")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet", "googlenet", "resnet50", "vgg16"])
    parser.add_argument("--cells", nargs="+", type=int, default=[1000, 3000, 10_661])
    parser.add_argument("--cuts", nargs="+", choices=["head", "last"], default=["head", "last"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--name", default="memory", help="of the JSON file")
    options = parser.parse_args()
    found = {"what": "peak resident memory of the training process", "machine": machine(), "rows": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = options.data or make_demo(folder / "demo")
        for number in options.cells:
            data = repeated(source, folder / f"cells-{number}", number)
            for backbone in options.backbones:
                for cut in options.cuts:
                    row = {"backbone": backbone, "cells": number} | measure(data, backbone, cut, options.epochs, folder)
                    found["rows"].append(row)
                    seconds = "  ".join(f"{stage} {value:.0f} s" for stage, value in row["seconds"].items())
                    gigabytes = row["peak bytes"] / 2**30
                    print(
                        f"{backbone:<10} {number:>6} cells  {row['cut']:<14} {gigabytes:.2f} GiB  {seconds}", flush=True
                    )
                    write(options.name, found)


if __name__ == "__main__":
    main()
