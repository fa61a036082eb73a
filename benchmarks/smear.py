"""Are the white cells of whole smears found, and are smears told from other pictures?

Cells: the 73 BCCD photographs with boxes by hand. A found box is right where it overlaps a labelled one by half (IoU
0.5 or more), matched one to one, best first. Two photographs show a white cell, cut by the border, that nobody boxed:
a second figure counts these as cells, boxed by eye. The constants of `data/white_cells.py` were chosen on the first
40 files by name; the other 33 were looked at once, after that. Smears: every BCCD photograph is one; C-NMC cells,
generated cells and, if scikit-image is installed, its photographs are none.
"""

import importlib.util
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from benchmarks.harness import SHARED, Options
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import read_image
from leukodash.errors import ImageError
from leukodash.evaluation.statistics import wilson
from leukodash.smears.detection import Box, find_white_cells, looks_like_smear, overlap

TUNED = 40
OVERLAP = 0.5
CNMC_CELLS = 500
UNLABELLED = {  # white cells with a lobed nucleus, cut by the border
    "BloodImage_00242.jpg": Box(157, 0, 312, 52),
    "BloodImage_00327.jpg": Box(0, 172, 127, 370),
}


def labelled(path: Path) -> list[Box]:
    """Return the white cells that were boxed by hand in a photograph; path: of the image."""
    tree = ElementTree.parse(path.parents[1] / "annotations" / f"{path.stem}.xml")  # a file of the data set
    boxes = [one.find("bndbox") for one in tree.iter("object") if one.findtext("name") == "WBC"]
    return [Box(*(int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))) for box in boxes]


def matched(found: list[Box], truth: list[Box]) -> list[float]:
    """Match boxes one to one, best overlap first; returns the overlaps of those that reach `OVERLAP`."""
    pairs = [(overlap(one, other), i, j) for i, one in enumerate(truth) for j, other in enumerate(found)]
    left, right, kept = set(range(len(truth))), set(range(len(found))), []
    for value, i, j in sorted(pairs, reverse=True):
        if value >= OVERLAP and i in left and j in right:
            left.remove(i)
            right.remove(j)
            kept.append(value)
    return kept


def detection(paths: list[Path]) -> dict:
    """Find the cells of each photograph and compare them with the labels, as they are and with those that lack."""
    overlaps, cells, found, lacking, odd, seconds = [], 0, 0, 0, {}, []
    for path in paths:
        image, truth = read_image(path), labelled(path)
        since = time.perf_counter()
        boxes = find_white_cells(image)
        seconds.append(time.perf_counter() - since)
        hits = matched(boxes, truth)
        cells, found, overlaps = cells + len(truth), found + len(boxes), overlaps + hits
        if len(hits) < max(len(truth), len(boxes)):
            odd[path.name] = {"missed": len(truth) - len(hits), "too many": len(boxes) - len(hits)}
        if path.name in UNLABELLED:
            cell = UNLABELLED[path.name]
            lacking += 1
            odd[path.name]["of these unlabelled cells"] = len(matched(boxes, [*truth, cell])) - len(hits)
    more = sum(one.get("of these unlabelled cells", 0) for one in odd.values())
    return {
        "images": len(paths),
        "as labelled": rates(len(overlaps), cells, found),
        "with unlabelled cells": rates(len(overlaps) + more, cells + lacking, found),
        "mean overlap": float(np.mean(overlaps)),
        "milliseconds an image": 1000 * float(np.median(seconds)),
        "not as labelled": odd,
    }


def rates(right: int, cells: int, found: int) -> dict:
    """Recall and precision with their Wilson intervals."""
    return {
        "right": right,
        "cells": cells,
        "found": found,
        "recall": right / cells,
        "recall_wilson": wilson(right, cells),
        "precision": right / found,
        "precision_wilson": wilson(right, found),
    }


def said(of: dict, rate: str, among: str) -> str:
    """Return for example ``"recall 96.9 % (31 of 32; 84.3–99.4 %)"``."""
    low, high = of[f"{rate}_wilson"]
    return f"{rate} {of[rate]:.1%} ({of['right']} of {of[among]}; {low:.1%}–{high:.1%})"


def told_apart(pictures: dict[str, list[Path]]) -> dict:
    """Count the pictures of each kind that are taken for smears."""
    counts = {}
    for kind, paths in pictures.items():
        taken, seconds = [], []
        for path in paths:
            try:
                image = read_image(path)
            except ImageError:
                continue
            since = time.perf_counter()
            taken.append(looks_like_smear(image))
            seconds.append(time.perf_counter() - since)
        counts[kind] = {
            "pictures": len(taken),
            "smears": int(sum(taken)),
            "milliseconds": 1000 * float(np.median(seconds)),
        }
    return counts


def measure(options: Options) -> dict:
    """Measure both parts, and count what is taken for a smear."""
    paths = sorted((SHARED / "data" / "bccd" / "images").glob("*.jpg"))
    parts = {f"first {TUNED} (tuned on)": paths[:TUNED], f"other {len(paths) - TUNED} (held out)": paths[TUNED:]}
    found = {part: detection(some) for part, some in parts.items()}
    for part, of in found.items():
        print(f"{part}: mean overlap {of['mean overlap']:.2f}, {of['milliseconds an image']:.0f} ms an image")
        for labels in ("as labelled", "with unlabelled cells"):
            print(f"  {labels}: {said(of[labels], 'recall', 'cells')}, {said(of[labels], 'precision', 'found')}")
        print(f"  not as labelled: {of['not as labelled'] or 'none'}", flush=True)
    pictures = {"BCCD photographs": paths}
    pictures["generated cells"] = sorted(make_demo(options.folder / "demo", 100, 10).rglob("*.png"))
    if cells := sorted(options.data.rglob("*.webp")) if options.data else []:
        pictures["C-NMC cells"] = cells[:: max(1, len(cells) // CNMC_CELLS)]
    if specification := importlib.util.find_spec("skimage"):
        folder = Path(specification.origin).parent / "data"
        pictures["scikit-image's pictures"] = sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])
    smears = told_apart(pictures)
    for kind, of in smears.items():
        print(f"{kind}: {of['smears']} of {of['pictures']} taken for smears, {of['milliseconds']:.1f} ms each")
    return {"cells": found, "smears": smears}
