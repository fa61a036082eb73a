"""Class and heat map: the app against the plain prediction of the same cells, and against tf-keras-vis.

    python -m benchmarks.explain_speed [--data DIR] [--backbones NAME …] [--cells 100]

For each network a run is made without training (its speed is the same), and everything is measured in turns in one
process, the fastest of several rounds counts. All sides get the cells in the same batches and the same precision;
tf-keras-vis, which knows float32 best, is measured in that too. It gets the network without its softmax, the class of
each cell for nothing, and is not asked to scale its maps up.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import keras
import numpy as np
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.scores import CategoricalScore

from benchmarks.engine import RESULTS, machine, write
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import read_image, square
from leukodash.inference.classifier import BATCH, Classifier, load
from leukodash.inference.classify_files import classify_files
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import BACKBONES
from leukodash.models.build import build, save_trained
from leukodash.models.weights import find_weights, identity
from leukodash.runs.run_folder import create_run


def classifier(backbone: str, precision: str) -> Classifier:
    """A run with a new head over the published weights, loaded as the app loads it."""
    row = BACKBONES[backbone]
    weights = find_weights(row)
    run = create_run(RunConfig(data="none", backbone=backbone, train_from="head", head=()))
    made = {
        "classes": ["all", "hem"],
        "positive": "all",
        "random_start": False,
        "weights_file": weights.name,
        "weights_sha256": identity(weights),
        "precision": precision,
    }
    run.write("model.json", made)
    run.write("metrics.json", {"part": "test"})
    save_trained(build(run.config, 2, weights, precision), run.path / "trained.weights.h5")
    return load(run)


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """The batches that the app makes."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def fastest(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each side: the fastest of some rounds, in which the sides take turns, after one to warm up."""
    seconds = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            since = time.perf_counter()
            side()
            if number:
                seconds[name].append(time.perf_counter() - since)
    return {name: min(times) for name, times in seconds.items()}


def compare(served: Classifier, files: list[Path], rounds: int) -> dict:
    """Measure all sides for one network in one precision; seconds for all cells, and ratios."""
    row = BACKBONES[served.run.config.backbone]
    images = [read_image(path) for path in files]
    ready = np.stack([square(image, served.size) for image in images]).astype(np.float32)
    classes = served.predict(images).argmax(axis=1)
    logits = keras.Model(served.model.input, served.model.get_layer("logits").output)
    theirs = Gradcam(logits, clone=False)
    served.model.jit_compile = False  # as in the app: with XLA for the CPU it would take seconds to compile

    def plain() -> None:
        for batch in batches(ready):
            served.model.predict_on_batch(batch)

    def plain_files() -> None:
        for some in batches(np.array(files)):
            batch = np.stack([square(read_image(path), served.size) for path in some])
            served.model.predict_on_batch(batch.astype(np.float32))

    def tf_keras_vis() -> None:
        for batch, wanted in zip(batches(ready), batches(classes), strict=True):
            score = CategoricalScore(wanted.tolist())
            theirs(score, batch, row.cam_layer, seek_penultimate_conv_layer=False, expand_cam=False)

    seconds = fastest(
        {
            "plain": plain,
            "app": lambda: served.classify_with_maps(images),
            "plain, from files": plain_files,
            "app, from files": lambda: classify_files([served], files),
            "tf-keras-vis": tf_keras_vis,
        },
        rounds,
    )
    ratios = {
        "app ÷ plain": seconds["app"] / seconds["plain"],
        "from files": seconds["app, from files"] / seconds["plain, from files"],
        "tf-keras-vis ÷ app": seconds["tf-keras-vis"] / seconds["app"],
    }
    return {"precision": served.precision, "seconds": seconds, "ratios": ratios}


def gains(rows: list[dict]) -> dict[str, float]:
    """Geometric means over the networks of how much faster than tf-keras-vis the app is."""
    used = [row["tf-keras-vis in float32 ÷ app"] for row in rows if "tf-keras-vis in float32 ÷ app" in row]
    same = [row["ratios"]["tf-keras-vis ÷ app"] for row in rows if "tf-keras-vis in float32 ÷ app" in row]
    exact = [row["ratios"]["tf-keras-vis ÷ app"] for row in rows if row["precision"] == "float32"]
    sides = {
        "app in the run's precision, tf-keras-vis in float32": used,
        "both in the run's precision": same,
        "both in float32": exact,
    }
    return {words: prod(values) ** (1 / len(values)) for words, values in sides.items()}


def earlier(options: argparse.Namespace) -> list[dict]:
    """Rows of an earlier call for as many cells on this machine, of networks that are not measured now."""
    path = RESULTS / "explain.json"
    known = json.loads(path.read_bytes()) if path.exists() else {}
    if (known.get("machine"), known.get("cells")) != (machine(), options.cells):
        return []
    return [row for row in known["rows"] if row["backbone"] not in options.backbones]


def main() -> None:
    """Run the comparison, print its table, write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a C-NMC folder; the generated cells without it")
    known = [name for name, row in BACKBONES.items() if find_weights(row)]
    parser.add_argument("--backbones", nargs="+", default=known)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    results = {"machine": machine(), "cells": options.cells, "batch": BATCH, "rows": earlier(options)}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["LEUKODASH_CHECKPOINTS"] = temporary
        dataset = load_dataset(options.data or make_demo(Path(temporary) / "demo", cells=options.cells))
        chosen = dataset.cells.sample(options.cells, random_state=0)
        files = [dataset.root / file for file in chosen["file"]]
        for backbone in options.backbones:
            own = "bfloat16" if BACKBONES[backbone].bfloat16 and cpu_has_bfloat16() else "float32"
            rows = []
            for precision in dict.fromkeys([own, "float32"]):
                rows.append({"backbone": backbone, **compare(classifier(backbone, precision), files, options.rounds)})
                ratios = "  ".join(f"{name}: {value:.2f}" for name, value in rows[-1]["ratios"].items())
                print(f"{backbone:<10} {precision:<8}  {ratios}", flush=True)
            # as each is used: the app in the run's precision, tf-keras-vis on the network in float32
            rows[0]["tf-keras-vis in float32 ÷ app"] = rows[-1]["seconds"]["tf-keras-vis"] / rows[0]["seconds"]["app"]
            results["rows"] += rows
            write("explain", results | {"tf-keras-vis ÷ app, geometric means": gains(results["rows"])})
            keras.backend.clear_session()
    print(*[f"{words}: {value:.2f}" for words, value in gains(results["rows"]).items()], sep="\n")


if __name__ == "__main__":
    main()
