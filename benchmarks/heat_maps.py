"""Do heat maps show the decision? Exact evidence, heat on the cell, and deletion and insertion, on real test cells.

``python -m benchmarks.heat_maps RUN ... --data DIR`` measures these run folders; as one of all benchmarks, it takes a
published run of each way of pooling that MobileNet has. Test cells of a run are drawn at random, from each subject in
turn, 200 by default. Of each are measured, for every method:

- the share of the heat on the cell, and how often the hottest place is on it;
- deletion and insertion (Petsiuk et al. 2018): the area under the probability of the predicted class while patches of
  16 pixels of the cell turn black, hottest first (lower is better), or appear on black (higher is better). The order is
  that of the patches that hold a part of the cell, so that heat beside it costs nothing here. A random order is the
  baseline;
- for a linear head, by how much the sum of the evidence and the constants of the head miss the difference of logits.

Means have 95% intervals over subjects. Takes about five minutes a MobileNet run on two cores.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.harness import SHARED, Options, write
from leukodash.cam.localization import cell_mask, heat_place, ideal_map, resize_map
from leukodash.cam.methods import METHODS
from leukodash.cam.pooled_network import PooledNetwork
from leukodash.data.images import read_image, square
from leukodash.evaluation.statistics import ALPHA, effective_count, groups, jackknife_interval
from leukodash.inference.classifier import Classifier, load
from leukodash.runs.run_folder import Run, finished, published_runs

CELLS, PATCH, STEPS = 200, 16, 5
RANDOM = "random order"
MEASURES = ("on cell", "peak on cell", "deletion", "insertion")


def draw_cells(run: Run, data: Path, count: int, seed: int = 0) -> pd.DataFrame:
    """Return test cells of a run: one of each subject in turn, in random order. Columns file, label, subject, path."""
    tested = run.split[run.split["part"] == "test"].drop_duplicates("sha256").sample(frac=1, random_state=seed)
    tested = tested.assign(turn=tested.groupby(tested["subject"].fillna(tested["file"])).cumcount())
    chosen = tested.sort_values("turn", kind="stable").head(count)
    return chosen.assign(path=[data / file for file in chosen["file"]])


def curves(served: Classifier, image: np.ndarray, maps: dict[str, np.ndarray], place: int, seed: int) -> dict:
    """Return the areas under deletion and insertion for each map, (deletion, insertion) each.

    Args:
        served: the run.
        image: uint8 (size, size, 3), RGB.
        maps: by method float (h, w), 0 to 1.
        place: number of the class whose probability is measured.
        seed: of the order of patches with equal heat.
    """
    size, rng = image.shape[0], np.random.default_rng(seed)
    small = (size // PATCH, size // PATCH)
    cell = cell_mask(image)
    inside = cv2.resize(ideal_map(cell, image.shape[:2]), small[::-1], interpolation=cv2.INTER_AREA)
    patches = np.flatnonzero(inside.ravel() > 0)
    counts = np.linspace(0, len(patches), STEPS + 1).round().astype(int)[1:-1]
    edited = []
    for heat in maps.values():
        warm = cv2.resize(resize_map(heat, image.shape[:2]), small[::-1], interpolation=cv2.INTER_AREA).ravel()[patches]
        order = patches[np.lexsort((rng.random(len(patches)), -warm))]
        for count in counts:
            first = np.zeros(small, np.uint8)
            first.ravel()[order[:count]] = 1
            mask = cv2.resize(first, (size, size), interpolation=cv2.INTER_NEAREST)[..., None]
            edited += [image * (1 - mask), image * mask]
    p = served.predict(np.stack([image, np.zeros_like(image), *edited]), single_view=True)[:, place]
    whole, black, inner = p[0], p[1], p[2:].reshape(len(maps), len(counts), 2)
    shares = np.concatenate([[0], counts / len(patches), [1]])
    areas = {}
    for method, between in zip(maps, inner, strict=True):
        deleted, inserted = (
            [a, *middle, b] for a, middle, b in ((whole, between[:, 0], black), (black, between[:, 1], whole))
        )
        areas[method] = float(np.trapezoid(deleted, shares)), float(np.trapezoid(inserted, shares))
    return areas


def missed(network: PooledNetwork, image: np.ndarray) -> float | None:
    """Return |evidence + constants − difference of logits| of a cell; None for a head that is not linear."""
    head = network.head
    if len(head.layers) > 1:
        return None
    batch = image[None].astype(np.float32)
    found = network.gradients(batch, np.zeros(1, int))
    assert found.evidence is not None, "a pooled network gives evidence"
    kernel, bias = (each.astype(float) for each in head.layers[0])
    constants = bias - (head.mean.astype(float) / head.deviation) @ kernel
    sides = found.evidence.astype(float).mean() + constants[0] - constants[1], found.logits[0].astype(float)
    return float(abs(sides[0] - sides[1][0] + sides[1][1]))


def mean_interval(values: pd.Series, subjects: pd.Series) -> list[float]:
    """Return the mean over cells, and its 95% jackknife interval over subjects: [mean, low, high].

    A proportion, of values 0 and 1, has the interval of `jackknife_interval`; other means have Student's.
    """
    kept = values.notna()
    numbers, code = values[kept].to_numpy(float), groups(subjects[kept].to_numpy(object), int(kept.sum()))[0]
    sizes, mean = np.bincount(code), float(numbers.mean())
    left_out = (numbers.sum() - np.bincount(code, numbers)) / (len(numbers) - sizes)
    if np.isin(numbers, (0, 1)).all():
        return [mean, *(jackknife_interval(mean, left_out, sizes) or (np.nan, np.nan))]
    error = np.sqrt((len(sizes) - 1) / len(sizes) * ((left_out - left_out.mean()) ** 2).sum())
    reach = stats.t.ppf(1 - ALPHA / 2, max(effective_count(sizes) - 1, 1)) * error
    return [mean, mean - float(reach), mean + float(reach)]


def measure_run(run: Run, data: Path, count: int) -> dict:
    """Return the measures of a run: see the module."""
    served, since = load(run), time.perf_counter()
    chosen, rows, misses, scores = draw_cells(run, data, count), [], [], []
    network, others = served.network(method="evidence"), [name for name in METHODS if name != "evidence"]
    together = [["evidence", *others]] if "gradcam" in served.together("evidence") else [["evidence"], others]
    for number, cell in enumerate(chosen.to_dict("records")):
        image = square(read_image(cell["path"]), served.size)
        answers = {name: own[0] for group in together for name, own in served.answer([image], group).items()}
        maps = {name: answer.heat for name, answer in answers.items()}
        place = int(answers["evidence"].probabilities.argmax())
        scores.append((answers["gradcam"].score, answers["gradcam"].score_shown))
        areas = curves(served, image, maps | {RANDOM: np.zeros((2, 2))}, place, number)
        for method, (deleted, inserted) in areas.items():
            where = heat_place(image, maps[method]) if method in maps else None
            row = {"cell": number, "subject": cell["subject"], "class": served.classes[place], "method": method}
            row |= {
                "on cell": where.share if where else np.nan,
                "peak on cell": float(where.peak_on_cell) if where else np.nan,
            }
            rows.append(row | {"deletion": deleted, "insertion": inserted})
        if isinstance(network, PooledNetwork) and len(served.classes) == 2:
            misses.append(missed(network, image))
        if number % 20 == 19:
            print(f"{run.id}: {number + 1} of {len(chosen)} cells, {time.perf_counter() - since:.0f} s", flush=True)
    return {
        "title": run.title, "pooling": run.trained.pooling, "cells": len(chosen),
        "subjects": int(chosen["subject"].nunique()), "seconds": round(time.perf_counter() - since, 1),
        "most missed of the logit": max(misses) if misses and None not in misses else None,
        "share of the scores in the last layer": share_of_last(np.array(scores)),
        "methods": summarize(pd.DataFrame(rows)),
    }  # fmt: skip


def share_of_last(scores: np.ndarray) -> float | None:
    """Return Σ shown · score / Σ score² of the last layer's maps, as the classify page says it; None if unknown."""
    known = scores[np.isfinite(scores).all(axis=1)]
    return float((known[:, 0] * known[:, 1]).sum() / (known[:, 0] ** 2).sum()) if len(known) else None


def summarize(rows: pd.DataFrame) -> dict:
    """Return by method each measure with its interval, evidence minus it, and deletion and insertion by class."""
    first, found = rows[rows["method"] == "evidence"].set_index("cell"), {}
    for method, own in rows.groupby("method", sort=False):
        own = own.set_index("cell")
        result = {name: mean_interval(own[name], own["subject"]) for name in MEASURES if own[name].notna().any()}
        if method != "evidence":
            result["evidence minus it"] = {
                name: mean_interval(first[name] - own[name], own["subject"]) for name in result
            }
        for label, of_class in own.groupby("class"):
            result[f"of {label}"] = {name: float(of_class[name].mean()) for name in ("deletion", "insertion")}
        found[str(method)] = result
    return found


def table(result: dict) -> str:
    """Return a result in words and a table, a line a method."""
    lines = [f"{result['title']}: {result['cells']} cells of {result['subjects']} subjects, {result['seconds']:.0f} s"]
    lines.append(
        f"most missed of the logit: {result['most missed of the logit']}; share of the scores in the last layer: "
        f"{result['share of the scores in the last layer']}"
    )
    for method, own in result["methods"].items():
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*own[name]) if name in own else "–" for name in MEASURES]
        lines.append(f"{method:13}" + "  ".join(f"{name} {cell}" for name, cell in zip(MEASURES, cells, strict=True)))
    return "\n".join(lines)


def measure(options: Options) -> dict:
    """Measure a published MobileNet run of each way of pooling."""
    if options.data is None:
        return {"skipped": "no folder of real cells"}
    runs: dict[str, Run] = {}
    for run in finished(published_runs()):
        if run.config.backbone == "mobilenet" and run.weights.is_file() and "fold" in run.config.split.kind:
            runs.setdefault(run.trained.pooling, run)
    count = CELLS // 10 if options.quick else CELLS
    return {"runs": {run.id: measure_run(run, options.data, count) for run in runs.values()}}


def main() -> None:
    """Measure the runs whose folders are given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heat_maps", description="Measure heat maps of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cnmc", help="folder of real cells")
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/heat_maps.json")
    options = parser.parse_args()
    found = {folder.name: measure_run(Run(folder), options.data, options.cells) for folder in options.runs}
    print(*map(table, found.values()), sep="\n\n")
    if options.write:
        write("heat_maps", {"runs": found})
    else:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
