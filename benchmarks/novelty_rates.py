"""This is no cell: how well a run tells held-out cells from photographs, smears, noise, drawings and blank images.

    python -m benchmarks.novelty_rates [--data DIR] [--smears DIR] [--only NAME …] [--json FILE]

Trains each run by the command line, from subject-disjoint parts, and asks it about its test cells, about outsiders and
about cells turned, moved or stained anew. Prints the area under the ROC curve and the share accepted for each kind,
compares the stored score with a shrunk Mahalanobis distance, the residual of a PCA and the nearest neighbors, and, of
frozen backbones, tries further splits: subjects differ. Without C-NMC or smears it makes do with the generated cells.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks import outsiders
from leukodash import settings
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import cell_store, read_image, square
from leukodash.data.split import Split, make_split
from leukodash.evaluation.novelty import FILE, TRAINING_CELLS, Novelty
from leukodash.runs.run_folder import Run

RESULTS = Path(__file__).with_name("results")
SHARED = Path(__file__).resolve().parents[2] / "shared"
BATCH = 32
VARIED = 40  # test cells that are turned, moved, stained anew, and made outsiders of
SPLITS = 6  # of frozen backbones
OF_A_SUBJECT = 40  # cells at most: with the 1,555 that this leaves of 7,108, the fit has as many as it looks at

_FROZEN = ["epochs=3", "flips=none"]
_TUNED = ["train_from=all", "learning_rate=0.0001"]
_SCRATCH = ["weights=random"]
REAL = {
    "mobilenet": ("mobilenet", "recommended", _FROZEN),
    "googlenet": ("googlenet", "recommended", _FROZEN),
    "vgg16": ("vgg16", "recommended", _FROZEN),
    "resnet50": ("resnet50", "recommended", _FROZEN),
    "mobilenet, fine-tuned": ("mobilenet", "quick", [*_TUNED, "epochs=4"]),
    "mobilenet, random start": ("mobilenet", "quick", [*_SCRATCH, "epochs=4"]),
}
DEMO = {
    "demo, mobilenet": ("mobilenet", "quick", []),
    "demo, vgg16": ("vgg16", "quick", []),
    "demo, mobilenet, fine-tuned": ("mobilenet", "quick", _TUNED),
    "demo, mobilenet, random start": ("mobilenet", "quick", _SCRATCH),
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


def train(data: Path, backbone: str, preset: str, changes: list[str], checkpoints: Path) -> Run:
    """Train a run by the command line."""
    command = [sys.executable, "-m", "leukodash", "train", "--data", str(data)]
    command += ["--backbone", backbone, "--preset", preset]
    for change in changes:
        command += ["--set", change]
    environment = os.environ | {"LEUKODASH_CHECKPOINTS": str(checkpoints), "TF_CPP_MIN_LOG_LEVEL": "3"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise RuntimeError(shown.stdout + shown.stderr)
    return Run(Path(shown.stdout.split()[-1]))


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


def measure(run: Run, dataset: Dataset, smears: Path | None) -> dict[str, Any]:
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


def _there(path: Path) -> Path | None:
    return path if path.is_dir() else None


def main() -> None:
    """Train and measure each run, print its table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=_there(SHARED / "data" / "cnmc"), help="a C-NMC folder")
    parser.add_argument("--smears", type=Path, default=_there(SHARED / "data" / "bccd"), help="photographs of smears")
    parser.add_argument("--only", nargs="+", choices=[*REAL, *DEMO], help="these runs alone")
    parser.add_argument("--json", type=Path, default=RESULTS / "novelty.json")
    options = parser.parse_args()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.json.parent.mkdir(exist_ok=True)
    results = json.loads(options.json.read_text()) if options.only and options.json.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        demo = make_demo(Path(temporary) / "demo")
        few = some_cells(options.data, Path(temporary) / "some") if options.data else None
        for name, (backbone, preset, changes) in {**(REAL if options.data else {}), **DEMO}.items():
            if options.only and name not in options.only:
                continue
            data = demo if name in DEMO else few
            run = train(data, backbone, preset, changes, Path(temporary) / "checkpoints")
            results[name] = measure(run, load_dataset(data), options.smears)
            show(name, results[name])
            options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
