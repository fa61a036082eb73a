"""Are near-duplicates found if one of the two images is mirrored, turned, lighter, darker, shifted or scaled as well?

The pairs are those that the simplest measure finds: gray pictures of 64 by 64 pixels that correlate above 0.985. For
each change, a changed copy of every image of a pair is added to all cells, and a pair counts as found if the search
finds the copy of one image with the other image; each pair is tried both ways. Without C-NMC, a pair is a generated
cell with itself.

Before that, time and memory of a search among as many cells as C-NMC's training set has: stretched cells stand for
those of the third fold.
"""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Options
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import read_image
from leukodash.data.near_duplicates import near_duplicates

CELLS = 10_661  # in C-NMC's training set
ALIKE = 0.985
SHIFT = 8 / 450  # of the side: 8 pixels of C-NMC's images

Change = Callable[[np.ndarray], np.ndarray]


def moved(image: np.ndarray, scale: float = 1, x: float = 0, y: float = 0, turn: float = 0) -> np.ndarray:
    """Return an image scaled and turned (degrees) about its center, and shifted by fractions of its side."""
    side = len(image)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), turn, scale)
    matrix[:, 2] += side * x, side * y
    return cv2.warpAffine(image, matrix, image.shape[1::-1])


def lighter(image: np.ndarray, factor: float) -> np.ndarray:
    """Return an image with its values multiplied."""
    return (image * factor).clip(0, 255).astype(np.uint8)


def stretched(image: np.ndarray) -> np.ndarray:
    """Return another cell: this one stretched along a diagonal."""
    side = len(image)
    return moved(cv2.resize(moved(image, turn=45), (side, round(0.8 * side))), turn=15)


CHANGES: dict[str, Change] = {
    "as it is": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "turned by 90°": lambda image: np.rot90(image, 1),
    "turned by 180°": lambda image: np.rot90(image, 2),
    "turned by 270°": lambda image: np.rot90(image, 3),
    "15 % darker": lambda image: lighter(image, 0.85),
    "15 % brighter": lambda image: lighter(image, 1.15),
    "shifted right and down": lambda image: moved(image, x=SHIFT, y=SHIFT),
    "shifted left and up": lambda image: moved(image, x=-SHIFT, y=-SHIFT),
    "shifted right and up": lambda image: moved(image, x=SHIFT, y=-SHIFT),
    "shifted left and down": lambda image: moved(image, x=-SHIFT, y=SHIFT),
    "scaled by 0.9": lambda image: moved(image, 0.9),
    "scaled by 1.1": lambda image: moved(image, 1.1),
    "all of it": lambda image: moved(lighter(np.rot90(image[::-1]), 0.9), 0.93, -SHIFT, SHIFT),
}


def alike(paths: list[Path]) -> list[tuple[int, int]]:
    """Return the pairs of images that correlate above `ALIKE` as they are."""
    small = [
        cv2.resize(cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
        for path in paths
    ]
    rows = np.array(small, dtype=np.float32).reshape(len(small), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = []
    for start in range(0, len(rows), 500):
        first, second = np.nonzero(rows[start : start + 500] @ rows.T > ALIKE)
        pairs += [(start + one, other) for one, other in zip(first.tolist(), second.tolist(), strict=True)]
    return [(one, other) for one, other in pairs if one < other]


def found_of(paths: list[Path], pairs: list[tuple[int, int]], change: Change) -> dict:
    """Add changed copies of all images of the pairs to the cells; count the pairs found with one of the copies."""
    copied = sorted({place for pair in pairs for place in pair})
    copy = {place: len(paths) + number for number, place in enumerate(copied)}

    def read(place: int) -> np.ndarray:
        if place < len(paths):
            return read_image(paths[place])
        return np.ascontiguousarray(change(read_image(paths[copied[place - len(paths)]])))

    found = {(pair.first, pair.second) for pair in near_duplicates(len(paths) + len(copied), read)}
    tried = [tried for one, other in pairs for tried in ((other, copy[one]), (one, copy[other]))]
    among_cells = sum(second < len(paths) for _, second in found)
    return {"tried": len(tried), "found": sum(pair in found for pair in tried), "pairs of cells": among_cells}


def cost(paths: list[Path], number: int) -> dict:
    """Search among that many cells; returns seconds, and MiB of memory at most."""

    def read(place: int) -> np.ndarray:
        image = read_image(paths[place % len(paths)])
        return image if place < len(paths) else stretched(image)

    start = resource.getrusage(resource.RUSAGE_SELF)
    since = time.perf_counter()
    pairs = near_duplicates(number, read)
    seconds, end = time.perf_counter() - since, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cells": number,
        "pairs": len(pairs),
        "seconds": seconds,
        "processor seconds": end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime,
        "MiB before": start.ru_maxrss / 1024,
        "MiB at most": end.ru_maxrss / 1024,
        "load": os.getloadavg()[0],
    }


def measure(options: Options) -> dict:
    """Measure time and memory, then count what is found of every change."""
    dataset = load_dataset(options.data or make_demo(options.folder / "demo"))
    paths = [dataset.root / file for file in dataset.cells["file"].drop_duplicates()]
    size = cost(paths, CELLS if options.data else len(paths))
    print(size, flush=True)
    pairs, rows = alike(paths) or [(place, place) for place in range(0, len(paths), 20)], []
    for name in ["all of it"] if options.quick else CHANGES:
        rows.append({"change": name, **found_of(paths, pairs, CHANGES[name])})
        print(rows[-1], flush=True)
    return {"size": size, "rows": rows}
