"""This is no cell: how well a run tells held-out cells from photographs, smears, noise, drawings and blank images.

Trains each run by the command line, from subject-disjoint parts, and asks it about its test cells, about outsiders and
about cells turned, moved or stained anew. Prints the area under the ROC curve and the share accepted for each kind,
compares the stored score with a shrunk Mahalanobis distance, the residual of a PCA and the nearest neighbors, and, of
frozen backbones, tries further splits: subjects differ. Without C-NMC or smears it makes do with the generated cells.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks import outsiders
from benchmarks.harness import RECIPE, SHARED, Options, train
from leukodash import settings
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import cell_store, read_image, square
from leukodash.data.split import Split, make_split
from leukodash.evaluation.novelty import FILE, TRAINING_CELLS, Novelty
from leukodash.runs.run_folder import Run

BATCH = 32
VARIED = 40  # test cells that are turned, moved, stained anew, and made outsiders of
SPLITS = 6  # of frozen backbones
OF_A_SUBJECT = 40  # cells at most: with the 1,555 that this leaves of 7,108, the fit has as many as it looks at

BASE = RECIPE | {"split": {"kind": "subject", "validation": 0.2, "test": 0.2, "seed": 0}, "epochs": 3}
_TUNED = {"train_from": "all", "learning_rate": 1e-4, "epochs": 4}
_SCRATCH = {"weights": "random", "train_from": "all", "batchnorm": "trained", "epochs": 4}
REAL = {
    "mobilenet": ("mobilenet", {}),
    "googlenet": ("googlenet", {}),
    "vgg16": ("vgg16", {}),
    "resnet50": ("resnet50", {}),
    "mobilenet, fine-tuned": ("mobilenet", _TUNED),
    "mobilenet, random start": ("mobilenet", _SCRATCH),
}
DEMO = {
    "demo, mobilenet": ("mobilenet", {"epochs": 15}),
    "demo, vgg16": ("vgg16", {"epochs": 15}),
    "demo, mobilenet, fine-tuned": ("mobilenet", _TUNED | {"epochs": 15}),
    "demo, mobilenet, random start": ("mobilenet", _SCRATCH | {"epochs": 15}),
}

Score = Callable[[np.ndarray], np.ndarray]
Network = Callable[[list[np.ndarray]], np.ndarray]


def some_cells(source: Path, folder: Path) -> Path:
    """Copy some cells of every subject of a data set, laid out as they were."""
    dataset = load_dataset(source)
    for _, cells in dataset.cells.groupby("subject"):
        for file in cells["file"].sample(min(len(cells), OF_A_SUBJECT), random_state=0):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(dataset.root / file, folder / file)
    return folder


def network(run: Run) -> Network:
    """Return what gives a finished run's pooled features (n, d) of RGB images of any size."""
    from leukodash.models import build
    from leukodash.models.weights import find_weights

    made = run.model
    config = run.trained
    weights = None if config.weights == "random" else find_weights(config.spec)
    model = build.build(config, len(made["classes"]), weights, made["precision"])
    build.load_trained(model, run.path / "trained.weights.h5")
    prefix, _ = build.split_model(model, "pool")
    prefix.jit_compile = False

    def pooled(images: list[np.ndarray]) -> np.ndarray:
        rows = [square(np.ascontiguousarray(image), config.input_size) for image in images]
        rows += [rows[-1]] * (-len(rows) % BATCH)  # one shape, one trace
        batches = [np.stack(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
        return np.concatenate([prefix.predict_on_batch(batch) for batch in batches])[: len(images)]

    return pooled


def pooled_cells(run: Run, dataset: Dataset, rows: np.ndarray, pooled: Network) -> np.ndarray:
    """Return the pooled features of some cells: stored ones where the backbone was frozen."""
    if run.model["features"] and run.trained.train_from == "head":
        import ml_dtypes

        stored = np.load(settings.cache() / "features" / run.model["features"] / "view0-0.npy", mmap_mode="r")
        return np.asarray(stored.view(ml_dtypes.bfloat16) if stored.dtype == np.uint16 else stored)[rows]
    return pooled(list(cell_store(dataset, run.config.input_size)[rows]))


def other_scores(training: np.ndarray) -> dict[str, Score]:
    """The methods that the stored score is compared with, each fitted to the same training cells."""
    mean = training.mean(axis=0)
    moved = (training - mean).astype(np.float64)
    precision = np.linalg.inv(ledoit_wolf(moved)[0])
    directions = np.linalg.svd(moved, full_matrices=False)[2][:32].T
    neighbors = NearestNeighbors(n_neighbors=5).fit(_unit(training))
    return {
        "Mahalanobis, Ledoit-Wolf": lambda x: np.einsum("nd,de,ne->n", x - mean, precision, x - mean),
        "PCA residual": lambda x: ((x - mean) ** 2).sum(axis=1) - (((x - mean) @ directions) ** 2).sum(axis=1),
        "5th nearest neighbor": lambda x: neighbors.kneighbors(_unit(x))[0][:, -1],
    }


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)


def auc(cells: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve between the scores of cells and of others."""
    return float(roc_auc_score(np.repeat([0, 1], [len(cells), len(others)]), np.concatenate([cells, others])))


def rates(run: Run, dataset: Dataset, smears: Path | None) -> dict[str, Any]:
    """Ask a run about cells and outsiders; returns figures for JSON."""
    novelty, pooled, rng = Novelty.load(run.path), network(run), np.random.default_rng(0)
    part = run.split["part"].to_numpy()
    rows = {name: rng.permutation(np.flatnonzero(part == name)) for name in ("train", "validation", "test")}
    if run.model["features"] is None:  # each cell goes through the network
        rows = {name: some[:TRAINING_CELLS] for name, some in rows.items()}
    features = {name: pooled_cells(run, dataset, some, pooled) for name, some in rows.items()}
    images = [read_image(dataset.root / file) for file in dataset.cells["file"].iloc[rows["test"][:VARIED]]]
    kinds = {name: pooled(some) for name, some in outsiders.outsiders(smears).items()}
    hard = {name: pooled(some) for name, some in outsiders.hard_outsiders(images, smears).items()}
    varied = {name: pooled(some) for name, some in outsiders.variants(images).items()}
    mix, cells = np.concatenate(list(kinds.values())), novelty.score(features["test"])

    def judged(groups: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        scores = {name: novelty.score(some) for name, some in groups.items()}
        return {
            name: {"n": len(some), "auc": auc(cells, some), "accepted": float((some <= novelty.limit).mean())}
            for name, some in scores.items()
        }

    since = time.perf_counter()
    Novelty.fit(features["train"][:TRAINING_CELLS], features["validation"])
    seconds = time.perf_counter() - since
    figures = {
        "cells": {name: len(some) for name, some in rows.items()},
        "file_bytes": (run.path / FILE).stat().st_size,
        "fit_seconds": seconds,
        "test_cells_accepted": float((cells <= novelty.limit).mean()),
        "mix": judged({"mix": mix})["mix"],
        "mix_smallest_score_over_limit": float(novelty.score(mix).min() / novelty.limit),
        "kinds": judged(kinds),
        "hard": judged(hard),
        "cells_made_otherwise": judged(varied),
        "methods": {"stored": compared(novelty.score, features["test"], mix)},
    }
    for name, score in other_scores(features["train"][: 3 * TRAINING_CELLS]).items():
        figures["methods"][name] = compared(score, features["test"], mix)
    if run.model["features"] and run.trained.train_from == "head":
        figures["splits"] = further_splits(run, dataset, mix, pooled)
    return figures


def compared(score: Score, cells: np.ndarray, mix: np.ndarray) -> dict[str, float]:
    """Of one method: the area, and the share of outsiders that come through where 95 % of test cells do."""
    of_cells, of_mix = score(cells), score(mix)
    return {"auc": auc(of_cells, of_mix), "mix_accepted": float((of_mix <= np.quantile(of_cells, 0.95)).mean())}


def further_splits(run: Run, dataset: Dataset, mix: np.ndarray, pooled: Network) -> list[dict[str, float]]:
    """Fit anew to other subjects: what is accepted of the cells of subjects that nobody has seen."""
    results, everything = [], pooled_cells(run, dataset, np.arange(len(dataset.cells)), pooled)
    for seed in range(SPLITS):
        part = make_split(dataset.cells, Split(kind="subject", seed=seed)).to_numpy()
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(part == "train"))[:TRAINING_CELLS]
        novelty = Novelty.fit(everything[rows], everything[part == "validation"])
        cells, others = novelty.score(everything[part == "test"]), novelty.score(mix)
        accepted = float((cells <= novelty.limit).mean())
        results.append(
            {"auc": auc(cells, others), "accepted": accepted, "mix": float((others <= novelty.limit).mean())}
        )
    return results


def show(name: str, figures: dict[str, Any]) -> None:
    """Print one run's table."""
    print(
        f"\n{name}: {figures['test_cells_accepted']:.1%} of {figures['cells']['test']:,} test cells accepted, ", end=""
    )
    print(f"AUROC {figures['mix']['auc']:.4f} against the mix, {figures['mix']['accepted']:.1%} of which accepted")
    for group in ("kinds", "hard", "cells_made_otherwise"):
        print(f"  {group.replace('_', ' ')}")
        for kind, row in figures[group].items():
            print(f"    {kind:<32} {row['n']:>4}   AUROC {row['auc']:.3f}   accepted {row['accepted']:.1%}")
    for method, row in figures["methods"].items():
        print(f"  {method:<26} AUROC {row['auc']:.4f}   mix accepted at 95 % of cells: {row['mix_accepted']:.2%}")
    if "splits" in figures:
        accepted = [split["accepted"] for split in figures["splits"]]
        least = min(split["auc"] for split in figures["splits"])
        most = max(split["mix"] for split in figures["splits"])
        print(f"  {len(accepted)} splits: accepted {min(accepted):.1%} to {max(accepted):.1%} of test cells, ", end="")
        print(f"{most:.2%} of the mix or less; AUROC {least:.4f} or more")
    print(f"  {FILE}: {figures['file_bytes'] / 1000:.0f} kB, fitted in {figures['fit_seconds']:.2f} s", flush=True)


def measure(options: Options) -> dict[str, Any]:
    """Train and measure each run; returns its figures by its name."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "LEUKODASH_CACHE": str(options.folder / "cache")}
    smears = SHARED / "data" / "bccd"
    demo = make_demo(options.folder / "demo")
    few = some_cells(options.data, options.folder / "some") if options.data else None
    results = {}
    for name, (backbone, changes) in {**(REAL if few else {}), **DEMO}.items():
        data = demo if name in DEMO else few
        _, path = train(data, backbone, BASE | changes, options.folder / "cache", options.folder / "checkpoints")
        results[name] = rates(Run(path), load_dataset(data), smears if smears.is_dir() else None)
        show(name, results[name])
    return results
