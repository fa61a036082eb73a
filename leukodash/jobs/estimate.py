"""How long a run will take and how much disk it needs, before it starts. Nothing here imports Keras.

A table of measured speeds, scaled to this machine by one matrix product, and corrected by what runs of the same
backbone really took here. Meant to be right within a factor of two, so every text says "about".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from leukodash import settings
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.images import cell_store_key
from leukodash.data.views import VIEWS
from leukodash.jobs.hardware import cpu_has_bfloat16, device_names, matrix_gflops, on_gpu
from leukodash.models.backbones import ALL, HEAD
from leukodash.runs.run_folder import Run

# Images a second, forward, at the backbone's own input size on two cores with bfloat16 units, in (float32, bfloat16);
# and the matrix product's speed there. ../shared/weights/README.md has the first four, the others were measured alike.
IMAGES_PER_SECOND = {
    "mobilenet": (104.0, 112.0),
    "vgg16": (8.7, 63.6),
    "resnet50": (24.8, 32.9),
    "googlenet": (54.9, 118.1),
    "inceptionv3": (25.0, 38.0),
    "nasnetmobile": (90.0, 105.0),
    "alexnet": (144.0, 270.0),
    "efficientnetv2b0": (99.0, 150.0),
}
GFLOPS = 150.0
GPU_SPEEDUP = 30.0  # of a GPU of the last years over those two cores: a cautious guess

# Of each block: the share of the network's arithmetic behind it, and the numbers that a cell crosses the cut with, at
# the backbone's own input size. Counted on the Keras models, layer by layer.
CUTS: dict[str, dict[str, tuple[float, int]]] = {
    "mobilenet": {
        "block1": (0.98, 401408),
        "block2": (0.91, 802816),
        "block3": (0.85, 401408),
        "block4": (0.75, 401408),
        "block5": (0.70, 200704),
        "block6": (0.60, 200704),
        "block7": (0.56, 100352),
        "block8": (0.47, 100352),
        "block9": (0.39, 100352),
        "block10": (0.30, 100352),
        "block11": (0.21, 100352),
        "block12": (0.13, 100352),
        "block13": (0.08, 50176),
    },
    "vgg16": {
        "block2": (0.87, 802816),
        "block3": (0.69, 401408),
        "block4": (0.39, 200704),
        "block5": (0.09, 100352),
    },
    "resnet50": {
        "conv2": (0.97, 200704),
        "conv3": (0.79, 802816),
        "conv4": (0.55, 401408),
        "conv5": (0.19, 200704),
        "conv5_block2": (0.11, 100352),
        "conv5_block3": (0.06, 100352),
    },
    "googlenet": {
        "conv2": (0.92, 200704),
        "inception_3a": (0.70, 150528),
        "inception_3b": (0.62, 200704),
        "inception_4a": (0.42, 94080),
        "inception_4b": (0.38, 100352),
        "inception_4c": (0.32, 100352),
        "inception_4d": (0.26, 100352),
        "inception_4e": (0.18, 103488),
        "inception_5a": (0.08, 40768),
        "inception_5b": (0.04, 40768),
    },
    "inceptionv3": {
        "mixed1": (0.71, 313600),
        "mixed2": (0.65, 352800),
        "mixed3": (0.59, 352800),
        "mixed4": (0.52, 221952),
        "mixed5": (0.45, 221952),
        "mixed6": (0.37, 221952),
        "mixed7": (0.28, 221952),
        "mixed8": (0.17, 221952),
        "mixed9": (0.12, 81920),
        "mixed10": (0.07, 131072),
    },
    "nasnetmobile": {
        "normal_0": (0.82, 206976),
        "reduction_4": (0.57, 413952),
        "normal_5": (0.47, 275968),
        "reduction_8": (0.26, 206976),
        "normal_9": (0.18, 137984),
        "normal_12": (0.05, 103488),
    },
    "alexnet": {"conv2": (0.89, 46656), "conv3": (0.55, 32448), "conv4": (0.38, 64896), "conv5": (0.15, 43264)},
    "efficientnetv2b0": {
        "block2": (0.91, 200704),
        "block3": (0.69, 100352),
        "block4": (0.55, 37632),
        "block5": (0.49, 18816),
        "block6": (0.27, 21952),
        "top_conv": (0.02, 9408),
    },
}
# Channels of the last feature maps, which is what pooling leaves, and how far the image is shrunk there.
CHANNELS = {
    "mobilenet": 1024,
    "vgg16": 512,
    "resnet50": 2048,
    "googlenet": 1024,
    "inceptionv3": 2048,
    "nasnetmobile": 1056,
    "alexnet": 256,
    "efficientnetv2b0": 1280,
}
STRIDE = 32
# Millions of numbers that one image leaves in all layers together, at the backbone's own input size.
ACTIVATIONS = {
    "mobilenet": 17.0,
    "vgg16": 15.4,
    "resnet50": 37.3,
    "googlenet": 7.1,
    "inceptionv3": 32.8,
    "nasnetmobile": 27.8,
    "alexnet": 1.0,
    "efficientnetv2b0": 16.2,
}
PREFIX_BATCH, AT_ONCE = 32, 0.25  # images a call of the frozen layers, and the share of layers held at a time there
LIBRARY_BYTES = 800_000_000  # of a process that has imported TensorFlow and read the cells

RECENT = 5  # past runs that correct the table
START_SECONDS = 6.0  # importing TensorFlow, building the model, the first call
STEP_SECONDS = 0.004  # what a step costs besides arithmetic
DECODE_SECONDS = 0.001  # a cell
UPDATE_SECONDS = 2e-9  # a trained weight, a step


@dataclass(frozen=True)
class Estimate:
    """What a run will take, roughly.

    Attributes:
        seconds: from its turn to its results.
        disk_bytes: what it adds to the disk: features and the run folder.
        decoded_bytes: and the decoded cells, which all runs of one input size share.
        memory_bytes: what its process holds at most, on a CPU; the GPU's memory is another matter.
        features_ready: whether the frozen layers' outputs, which it needs, were computed before.
    """

    seconds: float
    disk_bytes: int
    decoded_bytes: int
    memory_bytes: int
    features_ready: bool


def estimate(
    config: RunConfig, dataset: Dataset, runs: Iterable[Run] = (), before: Iterable[RunConfig] = ()
) -> Estimate:
    """Estimate a run on this machine.

    Args:
        config: the run's settings.
        dataset: its cells.
        runs: past runs on this machine; finished ones of the same backbone correct the table.
        before: settings of runs that come first: what they compute, this one finds.
    """
    runs = [run for run in runs if _fits(run, config)]
    cells = len(dataset.cells)
    needs_features = not config.full_path
    known = [*(run.config for run in runs), *(other for other in before if other.backbone == config.backbone)]
    ready = needs_features and any(_feature_key(other) == _feature_key(config) for other in known)
    seconds = _stages(config, cells)
    for stage in ("features", "training"):
        seconds[stage] *= _correction(stage, config, runs)
    if ready:
        seconds["features"] = 0.0
    decoded = (settings.cache() / "cells" / f"{cell_store_key(dataset, config.input_size)}.npy").exists()
    disk = 16 * _trained(config)  # weights, best weights and the optimizer's state
    if needs_features and not ready:
        digits = 2 if _short_digits(config) and config.train_from != HEAD else 4  # pooled features are float32 always
        disk += cells * len(VIEWS[config.flips]) * _crossing(config) * digits
    decoding = 0.0 if decoded else cells * DECODE_SECONDS
    pixels = 0 if decoded else cells * config.input_size**2 * 3
    return Estimate(START_SECONDS + decoding + sum(seconds.values()), disk, pixels, _memory(config, ready), ready)


def estimate_together(configs: list[RunConfig], dataset: Dataset, runs: Iterable[Run] = ()) -> list[Estimate]:
    """Estimate runs that are started together, in this order: shared features are computed by the first."""
    runs = list(runs)
    return [estimate(config, dataset, runs, configs[:place]) for place, config in enumerate(configs)]


def estimate_words(titles: list[str], estimates: list[Estimate], fallback: list[Estimate] | None = None) -> str:
    """One line on some runs that are about to be started together.

    Args:
        titles: the runs' backbones.
        estimates: one for each.
        fallback: what they take where no pretrained weights can be had.
    """
    at_once = min(len(estimates), len(device_names()))
    words = [f"about {duration_words(sum(e.seconds for e in estimates) / at_once)}"]
    if fallback:
        longer = sum(e.seconds for e in fallback) / at_once
        words[0] += f", or about {duration_words(longer)} from random weights"
    disk = sum(e.disk_bytes for e in estimates) + sum({e.decoded_bytes for e in estimates})
    words.append(f"{size_words(disk)} of disk")
    # A sweep names a network several times, and its later runs find what its first one computes: the first one tells.
    first = dict(reversed(list(zip(titles, estimates, strict=True))))
    if ready := [title for title, one in first.items() if one.features_ready]:
        words.append(f"features already there for {', '.join(reversed(ready))}")
    memory = sum(sorted((one.memory_bytes for one in estimates), reverse=True)[:at_once])
    words.append(f"{size_words(memory)} of memory")
    return " · ".join(words)


def duration_words(seconds: float) -> str:
    """Return for example ``"8 s"``, ``"1 min 20 s"``, ``"12 min"`` or ``"2 h 5 min"``: two figures that matter."""
    seconds = max(1, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 300:
        rest = seconds % 60 // 10 * 10
        return f"{seconds // 60} min {rest} s" if rest else f"{seconds // 60} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def size_words(size: int) -> str:
    """Return bytes as for example ``"140 MB"``."""
    if size < 1e6:
        return "under 1 MB"
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _stages(config: RunConfig, cells: int) -> dict[str, float]:
    """Seconds of the features, of the training and of the evaluation, by the table."""
    row, share = config.spec, 0.0 if config.train_from == HEAD else _share(config)
    rate = _speed(config) * (row.input_size / config.input_size) ** 2
    if config.split.counts:
        train, validation, test = (min(1, cells / sum(config.split.counts)) * count for count in config.split.counts)
    else:
        test = cells * config.split.test
        validation = cells * config.split.validation
        train = cells - test - validation
    forward, backward = (1.0, 2 * max(share, 0.0)) if config.full_path else (share, 2 * share)
    if config.batchnorm == "everywhere":
        backward = 2.0
    steps, head = math.ceil(train / config.batch_size), _trained_head(config)
    cell = (forward + backward) / rate + 6 * head / (matrix_gflops() * 1e9 / 2)
    epoch = train * cell + validation * forward / rate + steps * (STEP_SECONDS + UPDATE_SECONDS * _trained(config))
    features = 0.0 if config.full_path else cells * len(VIEWS[config.flips]) * (1 - share) / rate
    return {
        "features": features,
        "training": config.epochs * epoch,
        "evaluating": config.answer_views * (validation + test) * forward / rate + 1,
    }


def _memory(config: RunConfig, ready: bool) -> int:
    """Bytes that the training process holds at most: the libraries, the weights, and the images of a step.

    A trained weight is held five times: itself, its gradient, the optimizer's two moments, and the best so far.
    """
    image = 4e6 * ACTIVATIONS[config.backbone] * (config.input_size / config.spec.input_size) ** 2
    share = 0.0 if config.train_from == HEAD else _share(config)
    frozen = 0.0 if ready else PREFIX_BATCH * image * AT_ONCE
    behind = config.batch_size * image * (1.0 if config.full_path else share)
    weights = 4 * config.spec.parameters + 16 * _trained(config)
    return round(LIBRARY_BYTES + weights + max(frozen, behind))


def _share(config: RunConfig) -> float:
    return 1.0 if config.train_from == ALL else CUTS[config.backbone][config.train_from][0]


def _crossing(config: RunConfig) -> int:
    """How many numbers a cell is at the cut."""
    if config.train_from == HEAD:
        return _pooled(config)
    return round(CUTS[config.backbone][config.train_from][1] * (config.input_size / config.spec.input_size) ** 2)


def _pooled(config: RunConfig) -> int:
    if config.pooling == "blocks":
        return (1 + len(CUTS[config.backbone])) * CHANNELS[config.backbone] // 2  # early blocks have fewer channels
    places = max(1, config.input_size // STRIDE) ** 2 if config.pooling == "flatten" else 1
    return places * CHANNELS[config.backbone]


def _trained_head(config: RunConfig) -> int:
    widths = [_pooled(config), *(step for step in config.head if isinstance(step, int)), config.outputs or 2]
    return sum(before * after for before, after in pairwise(widths))


def _trained(config: RunConfig) -> int:
    """Weights that training changes; a block's share of them is taken as its share of the later half's."""
    backbone = 0 if config.train_from == HEAD else config.spec.parameters * min(1.0, 2 * _share(config))
    return round(backbone) + _trained_head(config)


def _short_digits(config: RunConfig) -> bool:
    if config.precision != "auto":
        return config.precision != "float32"
    return on_gpu() or (cpu_has_bfloat16() and config.spec.bfloat16 is not False)


def _speed(config: RunConfig) -> float:
    """Images a second, forward, at the backbone's own input size, on this machine."""
    exact, short = IMAGES_PER_SECOND[config.backbone]
    if on_gpu():
        return exact * GPU_SPEEDUP
    # Without units for it, bfloat16 is what float32 is.
    rate = short if _short_digits(config) and cpu_has_bfloat16() else exact
    return rate * matrix_gflops() / GFLOPS


def _fits(run: Run, config: RunConfig) -> bool:
    """Whether a past run says something about this one: finished, of the same backbone, on the same kind of device."""
    return (
        run.config.backbone == config.backbone
        and bool(run.metrics)
        and run.status.get("device", "").startswith("GPU") == on_gpu()
    )


def _feature_key(config: RunConfig) -> tuple:
    """What stored features depend on, as far as settings tell."""
    names = ("fingerprint", "input_size", "preprocessing", "train_from", "precision", "flips", "weights_sha256")
    key = tuple(getattr(config, name) for name in names)
    return (*key, config.full_path, config.pooling if config.train_from == HEAD or config.pooling == "blocks" else None)


def _correction(stage: str, config: RunConfig, runs: list[Run]) -> float:
    """How much longer than the table says such a stage really took here: the median of the last `RECENT` runs."""
    ratios = []
    for run in runs:
        past, metrics = run.config, run.metrics
        if metrics.get("random_start") and past.weights != "random":
            past = past.as_random_start()
        if stage == "features" and not metrics.get("features_computed"):
            continue
        if stage == "training" and (past.train_from, past.full_path) != (config.train_from, config.full_path):
            continue
        said = _stages(past.changed(epochs=max(metrics.get("epochs", 1), past.warmup_epochs + 1)), len(run.split))
        if said[stage] > 0 and metrics.get("seconds", {}).get(stage):
            ratios.append(metrics["seconds"][stage] / said[stage])
        if len(ratios) == RECENT:
            break
    return min(20.0, max(0.05, median(ratios))) if ratios else 1.0
