"""Class and heat map: the app against the plain prediction of the same cells, and against tf-keras-vis.

For each network a run is made without training (its speed is the same), and everything is measured in turns in one
process, the fastest of several rounds counts. All sides get the cells in the same batches and the same precision;
tf-keras-vis, which knows float32 best, is measured in that too. It gets the network without its softmax, the class of
each cell for nothing, and is not asked to scale its maps up.
"""

import os
import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import keras
import numpy as np
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.scores import CategoricalScore

from benchmarks.harness import Options, some_cells
from leukodash.config.run_config import RunConfig
from leukodash.data.images import read_image, square
from leukodash.inference.classifier import BATCH, Classifier, load
from leukodash.inference.classify_files import classify_files
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import BACKBONES
from leukodash.models.build import build, save_trained
from leukodash.models.weights import find_weights, identity
from leukodash.runs.run_folder import create_run

CELLS, ROUNDS = 100, 3  # of the rounds the fastest counts


def classifier(backbone: str, precision: str) -> Classifier:
    """A run with a new head over the published weights, loaded as the app loads it."""
    weights = find_weights(BACKBONES[backbone])
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
    spec = BACKBONES[served.run.config.backbone]
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
            theirs(score, batch, spec.cam_layer, seek_penultimate_conv_layer=False, expand_cam=False)

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


def measure(options: Options) -> dict:
    """Compare all networks whose weights are here; returns a row a network and precision."""
    os.environ["LEUKODASH_CHECKPOINTS"] = str(options.folder / "checkpoints")
    files, rows = sorted(some_cells(options, CELLS).rglob("*.*g")), []
    for backbone in [name for name, spec in BACKBONES.items() if find_weights(spec)]:
        own = "bfloat16" if BACKBONES[backbone].bfloat16 and cpu_has_bfloat16() else "float32"
        pair = [
            {"backbone": backbone, **compare(classifier(backbone, precision), files, ROUNDS)}
            for precision in dict.fromkeys([own, "float32"])
        ]
        # as each is used: the app in the run's precision, tf-keras-vis on the network in float32
        pair[0]["tf-keras-vis in float32 ÷ app"] = pair[-1]["seconds"]["tf-keras-vis"] / pair[0]["seconds"]["app"]
        print(*pair, sep="\n", flush=True)
        rows += pair
        keras.backend.clear_session()
    return {"cells": CELLS, "batch": BATCH, "rows": rows, "tf-keras-vis ÷ app, geometric means": gains(rows)}
