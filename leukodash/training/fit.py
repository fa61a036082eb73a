"""The training of one run, top to bottom: prepare, features, epochs on the trained suffix, evaluate.

Plain Keras 3, so that any backend does. Everything random follows from the seed, the epoch and the step, and a
checkpoint holds all that a step changes: a run that was killed and resumed ends as if nothing had happened.
"""

import csv
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from leukodash.atomic_write import write_atomic
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.data.images import cell_store, cell_store_key
from leukodash.data.split import make_split
from leukodash.data.views import VIEWS
from leukodash.errors import RunError, WeightsError
from leukodash.models import build as models
from leukodash.models.weights import identity, obtain_weights
from leukodash.runs.locks import Stopped, stop_requested
from leukodash.runs.run_folder import HISTORY_COLUMNS, STEP_COLUMNS, Run
from leukodash.runs.status import Status
from leukodash.training import evaluate as results
from leukodash.training.batches import Batches
from leukodash.training.checkpoint import Checkpoint
from leukodash.training.feature_store import compute_features, store_folder
from leukodash.training.precision import choose_precision, lowest_cosine

STEP_SECONDS = 0.5  # steps.csv gets a row at most this often


def train(folder: Path, device: str, status: Status) -> None:
    """Train the run in `folder` to its end, or go on where it was left.

    Raises:
        LeukoDashError: the data or settings cannot be used; the message is for the person who started the run.
        Stopped: someone asked for it; what was reached is in ``resume/``.
    """
    run, clock, progress = Run(folder), Clock(), cancellable(folder, status)
    config, dataset, part, model, suffix, batches = prepare(run, device, status, clock)
    features, views = batches.features, config.answer_views

    # --- training: epochs on the suffix
    status.set(stage="training", epoch=0, epochs=config.epochs)
    best = _epochs(run, config, suffix, batches, status)
    clock.lap("training")

    # --- evaluating: the untouched test part, with the weights of the best validation epoch
    status.set(stage="evaluating")
    best.restore_best()
    predictions, milliseconds = results.predict(suffix, batches, dataset, part, progress)
    _write_table(run.path / "predictions.csv", predictions)
    models.save_trained(model, run.weights)
    results.novelty(model, suffix, batches, status.progress).save(run.path)
    numbers = results.metrics(dataset, part, predictions, config)
    clock.lap("evaluating")
    run.write(  # last of all: it marks the run as finished
        "metrics.json",
        {
            **numbers,
            "best_epoch": best.best_epoch,
            "epochs": best.epoch,
            "random_start": run.model["random_start"],
            "generated": dataset.generated,
            "fingerprint": dataset.fingerprint,
            "parameters": run.model["parameters"],
            "trained_parameters": run.model["trained_parameters"],
            "seconds": clock.seconds,
            "ms_per_image": round(milliseconds + (features.ms_per_image * views if features else 0.0), 3),
            "memory_bytes": _most_memory(),
            "features_computed": bool(features and features.computed),
        },
    )
    print(f"Finished in {sum(clock.seconds.values()):.1f} s: {run.path}")


def cancellable(folder: Path, status: Status) -> Callable[[float, str], None]:
    """Return a progress callback that writes the status, and raises Stopped where someone asked for it."""

    def progress(fraction: float, message: str) -> None:
        if stop_requested(folder):
            raise Stopped
        status.progress(fraction, message)

    return progress


class Prepared(NamedTuple):
    """What a training starts from; `config` is what is really trained (see `RunConfig.as_random_start`)."""

    config: RunConfig
    dataset: Dataset
    part: pd.Series
    model: keras.Model
    suffix: keras.Model
    batches: Batches


def prepare(run: Run, device: str, status: Status, clock: "Clock") -> Prepared:
    """Read the cells, build the network, and compute what its frozen layers see, where nobody has done so yet."""
    config, progress = run.config, cancellable(run.path, status)

    # --- preparing: which cells, in which part, decoded
    dataset = load_dataset(config.data, progress)
    classes, part = dataset.classes, _parts(run, dataset)
    weights, config = _starting_weights(run, config, progress)
    precision = choose_precision(
        config.precision,
        config.spec,
        device,
        lambda: _fidelity(config, weights, cell_store(dataset, config.input_size)),
    )
    model = models.build(config, len(classes), weights, precision)
    after = None if config.full_path else models.frozen_layer(config)
    prefix, suffix = models.split_model(model, after)
    store = prefix and store_folder(
        cells=cell_store_key(dataset, config.input_size),
        weights=identity(weights),
        backbone=config.backbone,
        after=after,
        pooling=config.pooling if after == "pool" or config.pooling == "blocks" else None,
        preprocessing=config.preprocessing,
        precision=precision,
    )
    made = {"precision": precision, "features": store.name if store else None}
    _write_model_file(run, config, dataset, model, weights, made)
    clock.lap("preparing")

    # --- features: the frozen prefix over every cell, once, for all runs
    views = VIEWS[config.flips]
    if prefix is None:
        features = None
        cells = cell_store(dataset, config.input_size, progress)
    else:
        status.set(stage="features")
        features = compute_features(
            prefix, lambda: cell_store(dataset, config.input_size, progress), store, views, progress, progress
        )
        cells = None
    clock.lap("features")

    return Prepared(config, dataset, part, model, suffix, Batches(config, features, cells, dataset, part))


# ---------------------------------------------------------------------------------------------- preparing


def _parts(run: Run, dataset: Dataset) -> pd.Series:
    """Return the part of each cell: from split.csv where there is one (a resumed run), else drawn and written."""
    config = run.config
    if config.fingerprint and config.fingerprint != dataset.fingerprint:
        raise RunError(
            f"The data set in '{dataset.root}' has changed since this run was asked for (other files, labels or "
            "subjects). Start a new run on it."
        )
    known = run.split
    if len(known):
        return known["part"]
    part = make_split(dataset.cells, config.split)
    table = dataset.cells[["file", "label", "subject"]].assign(part=part, sha256=dataset.cells["sha256"])
    _write_table(run.path / "split.csv", table)
    return part


def _starting_weights(run: Run, config: RunConfig, progress: Any) -> tuple[Path | None, RunConfig]:
    """Find or download the pretrained weights; without any, the whole network is trained from random numbers."""
    if config.weights == "imagenet" and not run.model.get("random_start"):
        try:
            return obtain_weights(config.spec, progress), config
        except WeightsError as error:
            if run.model:  # a resumed run had them
                raise
            print(f"{error} Going on from random weights: the whole network is trained.")
    return None, config if config.weights == "random" else config.as_random_start()


def _fidelity(config: RunConfig, weights: Path | None, cells: np.ndarray) -> float:
    """Return the lowest cosine similarity between float32 and bfloat16 features of a few cells."""
    some = np.asarray(cells[np.linspace(0, len(cells) - 1, 16).astype(int)])
    exact, short = (
        models.split_model(models.build(config, 2, weights, precision), "pool")[0].predict_on_batch(some)
        for precision in ("float32", "bfloat16")
    )
    return lowest_cosine(np.asarray(exact), np.asarray(short))


def _write_model_file(
    run: Run, config: RunConfig, dataset: Dataset, model: keras.Model, weights: Path | None, made: dict
) -> None:
    layers = models.trained_layers(model)
    run.write(
        "model.json",
        {
            "classes": dataset.classes,
            "positive": dataset.positive,
            "generated": dataset.generated,
            "random_start": weights is None,
            "views": config.answer_views,
            "weights_file": weights.name if weights else None,
            "weights_sha256": identity(weights) if weights else None,
            **made,
            "train_from": config.train_from,
            "batchnorm": config.batchnorm,
            "parameters": model.count_params(),
            "trained_parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
            "trained_layers": [layer.name for layer in layers],
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    )


# ---------------------------------------------------------------------------------------------- training


def _epochs(run: Run, config: RunConfig, suffix: keras.Model, batches: Batches, status: Status) -> Checkpoint:
    """Train; returns the checkpoint, whose best weights are those of the lowest validation loss."""
    compile_suffix(suffix, config, status)
    state = Checkpoint(run.path / "resume", suffix)
    state.load()
    history = _Rows(run.path / "history.csv", HISTORY_COLUMNS, keep=lambda row: int(row["epoch"]) <= state.epoch)
    steps = _Rows(run.path / "steps.csv", STEP_COLUMNS, keep=lambda row: int(row["step"]) <= state.steps_done(batches))
    total = config.epochs * batches.steps()
    while state.epoch < config.epochs and not state.patience_over(config.early_stopping):
        epoch, since = state.epoch + 1, time.perf_counter()
        if state.step == 0:
            state.begin_epoch()
        for inputs, labels, weight in batches.epoch(epoch, state.step):
            done = (epoch - 1) * batches.steps() + state.step
            if config.schedule != "constant" or config.warmup_epochs:
                suffix.optimizer.learning_rate = learning_rate(config, done, batches.steps())
            logs = suffix.train_on_batch(inputs, labels, sample_weight=weight, return_dict=True)
            state.end_step(len(labels), logs["loss"], logs["accuracy"])
            if not np.isfinite(logs["loss"]):
                raise RunError(
                    f"In epoch {epoch} the loss is no number any more: the training has run away. Start again with a "
                    f"smaller learning rate than {config.learning_rate:g}, or with precision float32."
                )
            status.progress((done + 1) / total, f"epoch {epoch} of {config.epochs}", epoch=epoch)
            steps.append_if_due(done + 1, epoch, _short(state.loss), _short(state.accuracy))
            if stop_requested(run.path):
                state.save()
                raise Stopped
            state.save_if_due()
        loss, accuracy = results.loss_and_accuracy(suffix, batches, batches.rows["validation"])
        seconds = round(time.perf_counter() - since, 3)
        rate = learning_rate(config, epoch * batches.steps() - 1, batches.steps())
        row = (state.loss, state.accuracy, loss, accuracy, rate)
        state.end_epoch(loss)
        history.append(epoch, *map(_short, row), seconds)
        state.save_if_due()
        batches.release()
    return state


def compile_suffix(suffix: keras.Model, config: RunConfig, status: Status) -> None:
    """Give the trained layers their optimizer and loss."""
    on_cpu = "CPU" in status.fields.get("device", "CPU")
    optimizer = _optimizer(config)
    if any(layer.dtype_policy.name == "mixed_float16" for layer in suffix.layers):
        # Keras does so by itself only for a model that was built under this policy as a whole
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    suffix.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        # on a CPU, XLA takes seconds to compile what TensorFlow already runs well
        jit_compile=False if on_cpu and keras.backend.backend() == "tensorflow" else "auto",
    )


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step (0 is the first): linear warm-up, then constant or a half cosine to zero."""
    warmup, total = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _optimizer(config: RunConfig) -> keras.optimizers.Optimizer:
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(config.learning_rate, momentum=config.momentum)
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    makers = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "adagrad": keras.optimizers.Adagrad,
    }
    return makers[config.optimizer](config.learning_rate)


# ---------------------------------------------------------------------------------------------- small things


class Clock:
    """Seconds of each stage, in this process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Note, and print, how long the stage took that ends now."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._since, 2)
        self._since = now
        print(f"{stage}: {self.seconds[stage]:.2f} s", flush=True)


class _Rows:
    """A CSV file with fixed columns that grows by a row at a time, flushed; a resumed run keeps the rows it may."""

    def __init__(self, path: Path, columns: tuple[str, ...], keep: Any) -> None:
        kept = []
        if path.is_file():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if None not in row.values() and keep(row)]
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(columns)
        self._writer.writerows([row[name] for name in columns] for row in kept)
        self._file.flush()
        self._written = 0.0

    def append(self, *values: object) -> None:
        self._writer.writerow(values)
        self._file.flush()

    def append_if_due(self, *values: object) -> None:
        if time.monotonic() - self._written >= STEP_SECONDS:
            self._written = time.monotonic()
            self.append(*values)


def _most_memory() -> int:
    """Most bytes that this process has held, as the system counts them."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_atomic(path, table.to_csv(index=False).encode())


def _short(value: float) -> str:
    return f"{float(value):.7g}"
