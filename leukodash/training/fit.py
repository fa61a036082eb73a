"""The training of one run, top to bottom: prepare, features, epochs on the trained suffix, evaluate.

Plain Keras 3, so that every backend works. All random numbers follow from the seed, the epoch and the step, and a
checkpoint holds everything that a step changes: a run that was killed and resumed ends as if it never was.
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

from leukodash.atomic_write import replacing
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.data.images import cell_store, cell_store_key
from leukodash.data.split import held_out_in_turn, make_split
from leukodash.data.views import VIEWS
from leukodash.errors import RunError, WeightsError
from leukodash.jobs.estimate import memory_shortage
from leukodash.models import build as models
from leukodash.models.backbones import EVERY_BLOCK, SCALED
from leukodash.models.head import has_pooled_head
from leukodash.models.program import write_program
from leukodash.models.weights import identity, obtain_weights, sha256_of
from leukodash.runs.locks import Stopped, stop_requested
from leukodash.runs.migrations import SCHEMA, stored_config
from leukodash.runs.run_files import HISTORY_COLUMNS, STEP_COLUMNS, STRENGTH
from leukodash.runs.run_folder import Run
from leukodash.runs.status import Status
from leukodash.training import evaluate
from leukodash.training.batches import Batches
from leukodash.training.checkpoint import Checkpoint, State
from leukodash.training.environment import environment
from leukodash.training.evaluate import HeldOut
from leukodash.training.feature_store import Features, compute_features, store_folder
from leukodash.training.precision import choose_precision, lowest_cosine
from leukodash.training.solve import STRENGTHS, moments, solve_path

STEP_SECONDS = 0.5  # steps.csv gets a row at most this often


def train(folder: Path, device: str, status: Status) -> None:
    """Train the run in `folder` to its end, or continue where it was left.

    Args:
        folder: the run folder.
        device: ``"gpu-<number>"`` or ``"cpu-<number>"``.
        status: writes ``status.json``.

    Raises:
        LeukoDashError: the data or settings cannot be used, or the training diverged; the message is for the person
            who started the run.
        Stopped: the run was asked to stop; what was reached is in ``resume/``.
    """
    run, clock, progress = Run(folder), Clock(), cancellable(folder, status)
    config, dataset, part, model, suffix, batches, facts = prepare(run, device, status, clock)

    # --- training: epochs on the suffix, or a head that is solved
    if config.solved:
        held_out, state = _solve(run, suffix, batches, dataset, status, progress)
    else:
        status.set(stage="training", epoch=0, epochs=config.epochs)
        compile_suffix(suffix, config, device)
        checkpoint = _epochs(run, config, suffix, batches, status)
        held_out, state = None, checkpoint.state
        if not state.best_epoch:
            raise _diverged("validation loss", "every epoch", config)
        checkpoint.restore_best()
    clock.lap("training")

    # --- evaluating: the untouched test part, with the weights of the best validation epoch
    status.set(stage="evaluating")
    predictions, milliseconds = evaluate.predict(suffix, batches, dataset, part, progress, held_out)
    run.write("predictions.csv", _csv(predictions))
    models.save_trained(model, run.weights)
    if facts["precision"] == "float32" and has_pooled_head(config):  # what pages classify with, without TensorFlow
        write_program(config.spec, model, config.weights_sha256 or "")
    evaluate.novelty(model, suffix, batches, progress, held_out).save(run.path)
    features = batches.source if isinstance(batches.source, Features) else None
    numbers = evaluate.metrics(dataset, part, predictions, config)
    clock.lap("evaluating")
    run.write(  # last of all: it marks the run as finished
        "metrics.json",
        {
            **numbers,
            "best_epoch": state.best_epoch,
            "best_val_loss": state.best_loss,
            "epochs": state.epoch,
            "random_start": config.weights == "random",
            "generated": dataset.generated,
            "fingerprint": dataset.fingerprint,
            "parameters": facts["parameters"],
            "trained_parameters": facts["trained_parameters"],
            "seconds": clock.seconds,
            "ms_per_image": round(milliseconds + (features.ms_per_image * config.answer_views if features else 0.0), 3),
            "memory_bytes": _peak_memory(),
            "features_computed": bool(features and features.computed),
        },
    )
    print(f"Finished in {sum(clock.seconds.values()):.1f} s: {run.path}")


def cancellable(folder: Path, status: Status) -> Callable[[float, str], None]:
    """Return a progress callback that writes the status, and raises Stopped when the run is asked to stop."""

    def progress(fraction: float, message: str) -> None:
        if stop_requested(folder):
            raise Stopped
        status.progress(fraction, message)

    return progress


class Prepared(NamedTuple):
    """What a training starts from; `config` is what is trained, `facts` the content of ``model.json``."""

    config: RunConfig
    dataset: Dataset
    part: pd.Series
    model: keras.Model
    suffix: keras.Model
    batches: Batches
    facts: dict[str, Any]


def prepare(run: Run, device: str, status: Status, clock: "Clock") -> Prepared:
    """Read the cells, build the network, and compute the features of its frozen layers unless they are stored."""
    progress = cancellable(run.path, status)

    # --- preparing: which cells, in which part, decoded
    dataset = load_dataset(run.config.data, progress)
    part = _parts(run, dataset)
    weights, config = _starting_weights(run, progress)
    if problem := memory_shortage(config):
        raise RunError(problem)
    precision = run.model.get("precision") or choose_precision(  # a resumed run keeps its own
        config.precision,
        config.spec,
        device,
        lambda: _fidelity(config, weights, cell_store(dataset, config.input_size)),
    )
    model = models.build(config, len(dataset.classes), weights, precision)
    after = None if config.full_path else models.frozen_layer(config)
    prefix, suffix = models.split_model(model, after)
    store = None
    if prefix is not None:
        store = store_folder(
            cells=cell_store_key(dataset, config.input_size),
            weights=weights and sha256_of(weights),
            backbone=config.backbone,
            after=after,
            pooling=config.pooling if after == "pool" or config.pooling in EVERY_BLOCK else None,
            preprocessing=config.preprocessing,
            precision=precision,
        )
    facts = {
        "schema": SCHEMA,
        "config": stored_config(config),
        "precision": precision,
        "classes": dataset.classes,
        "positive": dataset.positive,
        "generated": dataset.generated,
        "features": store.name if store else None,
        "parameters": model.count_params(),
        "trained_parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "trained_layers": [layer.name for layer in models.trained_layers(model)],
        "environment": environment(device),
    }
    run.write("model.json", facts)
    clock.lap("preparing")

    # --- features: the frozen prefix over every cell, once, for all runs
    source: Features | np.ndarray
    if store is None:
        source = cell_store(dataset, config.input_size, progress)
    else:
        status.set(stage="features")
        source = compute_features(
            prefix,
            lambda: cell_store(dataset, config.input_size, progress),
            store,
            VIEWS[config.flips],
            progress,
            progress,
        )
    clock.lap("features")

    return Prepared(config, dataset, part, model, suffix, Batches(config, source, dataset, part), facts)


# ---------------------------------------------------------------------------------------------- preparing


def _parts(run: Run, dataset: Dataset) -> pd.Series:
    """Return the part of each cell: from split.csv if it exists (a resumed run), else drawn and written."""
    config = run.config
    if config.fingerprint and config.fingerprint != dataset.fingerprint:
        raise RunError(
            f"The data set in '{dataset.root}' has changed since this run was created (other files, labels or "
            "subjects). Start a new run on it."
        )
    split = run.split
    if len(split):
        return split["part"]
    part = make_split(dataset.cells, config.split)
    if config.solved:  # subjects of the training part are held out in turn, so that none is lost to validation
        part = part.replace("validation", "train")
    table = dataset.cells[["file", "label", "subject"]].assign(part=part, sha256=dataset.cells["sha256"])
    run.write("split.csv", _csv(table))
    return part


def _starting_weights(run: Run, progress: Callable[[float, str], None]) -> tuple[Path | None, RunConfig]:
    """Find or download the pretrained weights; returns them and the config to train.

    Without weights, the whole network is trained from random numbers. A resumed run starts as it did before.
    """
    config, resumed = run.trained, bool(run.model)
    if config.weights == "random":
        return None, config
    try:
        weights = obtain_weights(config.spec, progress, config.weights_sha256 if resumed else None)
    except WeightsError as error:
        if resumed:
            raise
        print(f"{error} Continuing with random weights: the whole network is trained.")
        return None, config.as_random_start()
    return weights, config.changed(weights_file=weights.name, weights_sha256=identity(weights))


def _fidelity(config: RunConfig, weights: Path | None, cells: np.ndarray) -> float:
    """Return the lowest cosine similarity between float32 and bfloat16 features of a few cells."""
    some = np.asarray(cells[np.linspace(0, len(cells) - 1, 16).astype(int)])
    features = []
    for precision in ("float32", "bfloat16"):
        model = models.build(config, 2, weights, precision)
        prefix = keras.Model(model.input, model.get_layer("pool").output)
        features.append(np.asarray(prefix.predict_on_batch(some)))
    return lowest_cosine(*features)


# ---------------------------------------------------------------------------------------------- training


def _solve(
    run: Run,
    suffix: keras.Model,
    batches: Batches,
    dataset: Dataset,
    status: Status,
    progress: Callable[[float, str], None],
) -> tuple[HeldOut, State]:
    """Solve the head, put it into the network, and return the answers to held-out cells and what was chosen.

    Each strength of the penalty is a row of the history, as epochs are.
    """
    rows, normalization, logits = batches.rows["train"], suffix.get_layer(SCALED), suffix.get_layer("logits")
    status.set(stage="training", epoch=0, epochs=len(STRENGTHS))
    features = np.concatenate([batches.inputs(chunk) for chunk in np.array_split(rows, len(rows) // 512 + 1)])
    fold = held_out_in_turn(dataset.cells, rows)
    history = _Rows(run.path / "history.csv", (*HISTORY_COLUMNS, STRENGTH), keep=lambda row: False)
    state, best = State(), None
    progress(0.0, f"subjects are held out in turn, in {fold.max() + 1} parts")
    path = solve_path(features, batches.codes[rows], fold, batches.weight[batches.codes[rows]], normalization.epsilon)
    for number, step in enumerate(path, 1):
        if state.end_epoch(step.held_out_loss):
            best = step
        row = (step.loss, step.accuracy, step.held_out_loss, step.held_out_accuracy)
        history.append(number, *map(_short, row), "", round(step.seconds, 3), step.strength)
        status.progress(number / len(STRENGTHS), f"C = {step.strength:g}", epoch=number)
        if stop_requested(run.path):
            raise Stopped
    assert best is not None  # each step has a finite loss
    normalization.set_weights(moments(features))
    logits.set_weights([best.kernel, best.bias])
    return HeldOut(rows, fold, best.held_out), state


def _epochs(run: Run, config: RunConfig, suffix: keras.Model, batches: Batches, status: Status) -> Checkpoint:
    """Train; returns the checkpoint, whose best weights are those of the lowest validation loss."""
    checkpoint = Checkpoint(run.path / "resume", suffix)
    checkpoint.load()
    checkpoint.require_room()
    state, steps_per_epoch = checkpoint.state, batches.steps()
    done = state.epoch * steps_per_epoch + state.step
    history = _Rows(run.path / "history.csv", HISTORY_COLUMNS, keep=lambda row: float(row["epoch"]) <= state.epoch)
    steps = _Rows(run.path / "steps.csv", STEP_COLUMNS, keep=lambda row: float(row["step"]) <= done)
    while state.epoch < config.epochs and not _patience_over(state, config):
        epoch, since = state.epoch + 1, time.perf_counter()
        if state.step == 0:
            checkpoint.begin_epoch()
        for inputs, labels, weight in batches.epoch(epoch, state.step):
            if config.schedule != "constant" or config.warmup_epochs:
                suffix.optimizer.learning_rate = learning_rate(config, done, steps_per_epoch)
            logs = suffix.train_on_batch(inputs, labels, sample_weight=weight, return_dict=True)
            state.end_step(len(labels), logs["loss"], logs["accuracy"])
            done += 1
            if not np.isfinite(logs["loss"]):
                raise _diverged("loss", f"epoch {epoch}", config)
            status.progress(done / (config.epochs * steps_per_epoch), f"epoch {epoch} of {config.epochs}", epoch=epoch)
            steps.append_if_due(done, epoch, _short(state.loss), _short(state.accuracy))
            if stop_requested(run.path):
                checkpoint.save()
                raise Stopped
            checkpoint.save_if_due()
        loss, accuracy = evaluate.loss_and_accuracy(suffix, batches, batches.rows["validation"])
        seconds = round(time.perf_counter() - since, 3)
        rate = learning_rate(config, done - 1, steps_per_epoch)
        row = (state.loss, state.accuracy, loss, accuracy, rate)
        checkpoint.end_epoch(loss)
        history.append(epoch, *map(_short, row), seconds)
        checkpoint.save_if_due()
        batches.release()
    return checkpoint


def _patience_over(state: State, config: RunConfig) -> bool:
    return 0 < config.early_stopping <= state.epoch - state.best_epoch


def _diverged(value: str, when: str, config: RunConfig) -> RunError:
    return RunError(
        f"Training diverged: the {value} is NaN or infinite in {when}. Start again with a learning rate below "
        f"{config.learning_rate:g} or with precision float32."
    )


def compile_suffix(suffix: keras.Model, config: RunConfig, device: str) -> None:
    """Give the trained layers their optimizer and loss."""
    optimizer = _optimizer(config)
    if any(layer.dtype_policy.name == "mixed_float16" for layer in suffix.layers):
        # Keras does so by itself only for a model that was built under this policy as a whole
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    suffix.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        # on a CPU, XLA takes seconds to compile what TensorFlow already runs well
        jit_compile=False if device.startswith("cpu") and keras.backend.backend() == "tensorflow" else "auto",
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
    makers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop, "adagrad": keras.optimizers.Adagrad}
    return makers[config.optimizer](config.learning_rate)


# ---------------------------------------------------------------------------------------------- small things


class Clock:
    """Measures the seconds of each stage, in this process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Record and print how long the stage that ends now took."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._since, 2)
        self._since = now
        print(f"{stage}: {self.seconds[stage]:.2f} s", flush=True)


class _Rows:
    """A CSV file that grows by a row at a time; of earlier rows, those are kept for which `keep` returns True.

    Rows that a kill, a full disk or a power cut has damaged are dropped: the last one if it has no end, and any that
    does not have a number in each column.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], keep: Callable[[dict[str, str]], bool]) -> None:
        text = path.read_text(errors="replace") if path.is_file() else ""
        rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
        kept = [row for row in rows if set(row) == set(columns) and all(map(_is_number, row.values())) and keep(row)]
        lines = [columns, *([row[name] for name in columns] for row in kept)]
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{','.join(line)}\n" for line in lines))
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._written = 0.0

    def append(self, *values: object) -> None:
        self._writer.writerow(values)
        self._file.flush()

    def append_if_due(self, *values: object) -> None:
        if time.monotonic() - self._written >= STEP_SECONDS:
            self._written = time.monotonic()
            self.append(*values)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _short(value: float) -> str:
    return f"{float(value):.7g}"
