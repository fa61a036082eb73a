"""Estimates of a run's time, disk and memory before it starts. Nothing here imports Keras.

The speeds in the backbones' table are scaled to this machine by the speed of one matrix product, and corrected by the
time that past runs of the same backbone took here. The aim is a factor of two, so every text says "about".
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
from leukodash.jobs.hardware import (
    cpu_has_bfloat16,
    device_names,
    matrix_gflops,
    memory_left,
    memory_limit_bytes,
    memory_used_bytes,
    on_gpu,
)
from leukodash.models.backbones import ALL, EVERY_BLOCK, HEAD
from leukodash.runs.access import MAX_SECONDS, Actor
from leukodash.runs.run_folder import Run

# Speed of a matrix product on the two cores that the backbones' images per second were measured on.
GFLOPS = 150.0
GPU_SPEEDUP = 30.0  # of a recent GPU over those two cores: a cautious guess
PREFIX_BATCH, AT_ONCE = 32, 0.25  # images per call of the frozen layers; share of layer outputs held at a time
LIBRARY_BYTES = 800_000_000  # memory of a process that has imported TensorFlow and read the cells

RECENT = 5  # number of past runs that correct the table
START_SECONDS = 6.0  # importing TensorFlow, building the model, the first call
SOLVER_FITS, SOLVER_PASSES = 6, 10_000  # of a solved head: parts that are held out and the whole; operations a value
STEP_SECONDS = 0.004  # overhead of a step
DECODE_SECONDS = 0.001  # per cell
UPDATE_SECONDS = 2e-9  # per trained weight and step


@dataclass(frozen=True)
class Estimate:
    """What a run will take, roughly.

    Attributes:
        seconds: from leaving the queue to its results.
        disk_bytes: size of its features and its run folder.
        decoded_bytes: size of the decoded cells, which all runs of one input size share; 0 if they are there.
        memory_bytes: peak memory of its process on a CPU; GPU memory is not estimated.
        features_ready: whether the frozen layers' outputs that it needs were computed before.
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
        before: settings of runs that come first: this run finds the features that they compute.
    """
    runs = [run for run in runs if _fits(run, config)]
    cells = len(dataset.cells)
    needs_features = not config.full_path
    known = [*(run.trained for run in runs), *(other for other in before if other.backbone == config.backbone)]
    ready = needs_features and any(_feature_key(other) == _feature_key(config) for other in known)
    seconds = _stages(config, cells)
    for stage in ("features", "training"):
        seconds[stage] *= _correction(stage, config, runs)
    if ready:
        seconds["features"] = 0.0
    decoded = (settings.cache() / "cells" / f"{cell_store_key(dataset, config.input_size)}.npy").exists()
    disk = 16 * _trained(config)  # weights, best weights and the optimizer's state, in float32
    if needs_features and not ready:
        size = 2 if _half_precision(config) and config.train_from != HEAD else 4  # pooled features are always float32
        disk += cells * len(VIEWS[config.flips]) * _crossing(config) * size
    decoding = 0.0 if decoded else cells * DECODE_SECONDS
    pixels = 0 if decoded else cells * config.input_size**2 * 3
    return Estimate(START_SECONDS + decoding + sum(seconds.values()), disk, pixels, _memory(config, ready), ready)


def estimate_together(configs: list[RunConfig], dataset: Dataset, runs: Iterable[Run] = ()) -> list[Estimate]:
    """Estimate runs that are started together, in this order; the first computes the features that they share."""
    runs = list(runs)
    return [estimate(config, dataset, runs, configs[:place]) for place, config in enumerate(configs)]


def estimated_seconds(estimates: list[Estimate]) -> float:
    """Return how long runs take that are started together, as many at once as there are devices."""
    return sum(e.seconds for e in estimates) / min(len(estimates), len(device_names()))


def estimate_words(titles: list[str], estimates: list[Estimate], fallback: list[Estimate] | None = None) -> str:
    """Return one line on runs that are about to be started together.

    Args:
        titles: the runs' backbones.
        estimates: one for each run.
        fallback: the same if no pretrained weights are available.
    """
    words = [f"about {duration_words(estimated_seconds(estimates))}"]
    if fallback:
        words[0] += f", or about {duration_words(estimated_seconds(fallback))} from random weights"
    disk = sum(e.disk_bytes for e in estimates) + sum({e.decoded_bytes for e in estimates})
    words.append(f"{size_words(disk)} of disk")
    # In a sweep, later runs of a network find the features of its first run: only the first says what is there now.
    first = dict(reversed(list(zip(titles, estimates, strict=True))))
    if ready := [title for title, e in first.items() if e.features_ready]:
        words.append(f"features already computed for {', '.join(reversed(ready))}")
    memory = sum(sorted((e.memory_bytes for e in estimates), reverse=True)[: len(device_names())])
    words.append(f"{size_words(memory)} of memory")
    return " · ".join(words)


def memory_problem(estimates: list[Estimate]) -> str:
    """Return why a run would be ended for lack of memory before it learns; "" where it fits.

    Where memory is short, as on small servers on the web, the system ends the training process, or the app with it.
    """
    needed, used, limit = max(e.memory_bytes for e in estimates), memory_used_bytes(), memory_limit_bytes()
    if on_gpu() or needed + used <= limit:
        return ""
    return (
        f"A run needs about {size_words(needed)} of memory beside the {size_words(used)} that the app takes, and there "
        f"are {size_words(limit)} here: it would be ended before it learns. Train on a machine with more memory: "
        "LeukoDash runs on a laptop."
    )


def memory_shortage(config: RunConfig) -> str:
    """Return why the system would end the training process that asks; "" where the run fits into the free memory."""
    more, left = _memory(config, ready=False) - memory_used_bytes(), memory_left()
    if on_gpu() or left is None or more <= left:
        return ""
    return (
        f"This run needs about {size_words(more)} of memory, and {size_words(max(0, left))} are free here: it would be "
        "ended before it learns. End other programs and resume it, or start one with smaller images or batches, or "
        "with fewer trained layers."
    )


def time_refusal(actor: Actor, estimates: list[Estimate]) -> str:
    """Return why someone may not start runs that take this long, as a sentence; "" if they may."""
    longest = max(e.seconds for e in estimates)
    if actor.role != "visitor" or longest <= MAX_SECONDS:
        return ""
    return (
        f"In this public demo a run may take {duration_words(MAX_SECONDS)}, not about {duration_words(longest)}. "
        "Choose fewer epochs or a smaller input size."
    )


def duration_words(seconds: float) -> str:
    """Return for example ``"8 s"``, ``"1 min 20 s"``, ``"12 min"`` or ``"2 h 5 min"``: two significant figures."""
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
    """Return the seconds of the features, the training and the evaluation, by the table."""
    share = _share(config)
    rate = _speed(config) / _area(config)
    if config.split.counts:
        train, validation, test = (min(1, cells / sum(config.split.counts)) * count for count in config.split.counts)
    else:
        test = cells * config.split.test
        validation = cells * config.split.validation
        train = cells - test - validation
    forward, backward = (1.0 if config.full_path else share), 2 * share
    if config.batchnorm == "everywhere":
        backward = 2.0
    steps, head = math.ceil(train / config.batch_size), _trained_head(config)
    cell = (forward + backward) / rate + 6 * head / (matrix_gflops() * 1e9 / 2)
    epoch = train * cell + validation * forward / rate + steps * (STEP_SECONDS + UPDATE_SECONDS * _trained(config))
    features = 0.0 if config.full_path else cells * len(VIEWS[config.flips]) * (1 - share) / rate
    training = _solving(train + validation, _pooled(config)) if config.solved else config.epochs * epoch
    return {
        "features": features,
        "training": training,
        "evaluating": config.answer_views * (validation + test) * forward / rate + 1,
    }


def _solving(cells: float, values: int) -> float:
    """Return the seconds that `training.solve` takes: the inner products of the cells, then passes over them."""
    smaller = min(cells, values)
    products, passes = 2 * cells * values * smaller, SOLVER_PASSES * cells * smaller
    return SOLVER_FITS * (products + passes) / (matrix_gflops() * 1e9)


def _memory(config: RunConfig, ready: bool) -> int:
    """Return the peak memory of the training process: the libraries, the weights, and the images of a step.

    A trained weight is held five times: itself, its gradient, the optimizer's two moments, and the best so far.
    """
    image = 4e6 * config.spec.activations * _area(config)
    frozen = 0.0 if ready else PREFIX_BATCH * image * AT_ONCE
    trained = config.batch_size * image * (1.0 if config.full_path else _share(config))
    weights = 4 * config.spec.parameters + 16 * _trained(config)
    return round(LIBRARY_BYTES + weights + max(frozen, trained))


def _area(config: RunConfig) -> float:
    """Return the area of an image relative to the backbone's own input size."""
    return (config.input_size / config.spec.input_size) ** 2


def _share(config: RunConfig) -> float:
    """Return the share of the backbone's arithmetic that is trained."""
    fixed = {HEAD: 0.0, ALL: 1.0}
    train_from = config.train_from
    return fixed[train_from] if train_from in fixed else config.spec.block(train_from).compute_share


def _crossing(config: RunConfig) -> int:
    """Return the values per cell that pass from the frozen to the trained layers."""
    if config.train_from == HEAD:
        return _pooled(config)
    return round(config.spec.block(config.train_from).crossing_values * _area(config))


def _pooled(config: RunConfig) -> int:
    """Return the number of inputs of the head."""
    height, width, channels = config.spec.output_shape
    if config.pooling in EVERY_BLOCK:
        values = (1 + len(config.spec.blocks)) * channels // 2  # early blocks have fewer channels
        return values * (2 if config.pooling == "cell" else 1)
    return max(1, round(height * width * _area(config))) * channels if config.pooling == "flatten" else channels


def _trained_head(config: RunConfig) -> int:
    widths = [_pooled(config), *(step for step in config.head if isinstance(step, int)), config.outputs or 2]
    return sum(before * after for before, after in pairwise(widths))


def _trained(config: RunConfig) -> int:
    """Return the number of trained weights; late layers have more than their share of the arithmetic: twice it."""
    return round(config.spec.parameters * min(1.0, 2 * _share(config))) + _trained_head(config)


def _half_precision(config: RunConfig) -> bool:
    if config.precision != "auto":
        return config.precision != "float32"
    return on_gpu() or (cpu_has_bfloat16() and config.spec.bfloat16 is not False)


def _speed(config: RunConfig) -> float:
    """Return the images per second, forward, at the backbone's own input size, on this machine."""
    float32, bfloat16 = config.spec.images_per_second
    if on_gpu():
        return float32 * GPU_SPEEDUP
    # Without units for it, bfloat16 is no faster than float32.
    rate = bfloat16 if _half_precision(config) and cpu_has_bfloat16() else float32
    return rate * matrix_gflops() / GFLOPS


def _fits(run: Run, config: RunConfig) -> bool:
    """Return whether a past run can correct the estimate: finished, same backbone, same kind of device."""
    return (
        run.config.backbone == config.backbone
        and bool(run.metrics)
        and run.status.get("device", "").startswith("GPU") == on_gpu()
    )


def _feature_key(config: RunConfig) -> tuple:
    """Return the settings that stored features depend on."""
    names = ("fingerprint", "input_size", "preprocessing", "train_from", "precision", "flips", "weights_sha256")
    key = tuple(getattr(config, name) for name in names)
    return (
        *key,
        config.full_path,
        config.pooling if config.train_from == HEAD or config.pooling in EVERY_BLOCK else None,
    )


def _kind(config: RunConfig) -> tuple[str, bool, bool]:
    return config.train_from, config.full_path, config.solved


def _correction(stage: str, config: RunConfig, runs: list[Run]) -> float:
    """Return measured over estimated seconds of a stage: the median of the last `RECENT` runs that have it."""
    ratios = []
    for run in runs:
        past, metrics = run.trained, run.metrics
        if stage == "features" and not metrics.get("features_computed"):
            continue
        if stage == "training" and _kind(past) != _kind(config):
            continue
        estimated = _stages(past.changed(epochs=max(metrics.get("epochs", 1), past.warmup_epochs + 1)), len(run.split))
        if estimated[stage] > 0 and metrics.get("seconds", {}).get(stage):
            ratios.append(metrics["seconds"][stage] / estimated[stage])
        if len(ratios) == RECENT:
            break
    return min(20.0, max(0.05, median(ratios))) if ratios else 1.0
