"""Predictions of a trained suffix on the validation and test cells, and the metrics computed from them."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.data.images import cell_store
from leukodash.data.split import describe_split, find_leaks
from leukodash.evaluation.cell_area import area_auc, cell_area, stratified_auc
from leukodash.evaluation.metrics import evaluate
from leukodash.evaluation.novelty import TRAINING_CELLS, Novelty, mean_over_positions
from leukodash.evaluation.statistics import groups
from leukodash.models.build import frozen_layer, split_model
from leukodash.models.head import class_probabilities
from leukodash.runs.run_folder import cells_hash
from leukodash.training.batches import Batches
from leukodash.training.feature_store import Features, release

PREDICT_BATCH = 64
ON_BLACK = 0.9  # share of a picture that a cell on black fills at most


class HeldOut(NamedTuple):
    """Answers to training cells, each by a head that was fitted without its subject.

    Attributes:
        rows: positions of the cells in the data set, int (n,).
        fold: int (n,): cells of one number were held out together.
        logits: float64 (n, classes).
    """

    rows: np.ndarray
    fold: np.ndarray
    logits: np.ndarray


def _logits(suffix: keras.Model, batches: Batches, rows: np.ndarray, number: int = 0) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), PREDICT_BATCH):
        inputs = batches.inputs(rows[start : start + PREDICT_BATCH], number)
        yield np.asarray(suffix.predict_on_batch(inputs), np.float64)


def loss_and_accuracy(suffix: keras.Model, batches: Batches, rows: np.ndarray) -> tuple[float, float]:
    """Return the cross-entropy (without label smoothing and class weights) and the accuracy."""
    logits = np.concatenate(list(_logits(suffix, batches, rows)))
    codes = batches.codes[rows]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_likelihood = shifted[np.arange(len(rows)), codes] - np.log(np.exp(shifted).sum(axis=1))
    return float(-log_likelihood.mean()), float((logits.argmax(axis=1) == codes).mean())


def predict(
    suffix: keras.Model,
    batches: Batches,
    dataset: Dataset,
    part: pd.Series,
    progress: Callable[[float, str], None],
    held_out: HeldOut | None = None,
) -> tuple[pd.DataFrame, float]:
    """Return the table for predictions.csv, and the milliseconds that the suffix takes per cell.

    The table has the probability of every class for the validation and test cells: the mean over the views that the
    run averages. Answers to cells that were held out in turn stand as those of the part "validation". The time excludes
    the first batch, in which Keras compiles, if there are others.
    """
    rows = np.concatenate([batches.rows["validation"], batches.rows["test"]])
    timed = rows if len(rows) else batches.rows["train"][:PREDICT_BATCH]  # without a test part, for the time alone
    views, total = batches.config.answer_views, np.zeros((len(timed), len(dataset.classes)))
    every, done, times = len(timed) * views, [0], [time.perf_counter()]
    for number in range(views):
        chunks = []
        for chunk in _logits(suffix, batches, timed, number):
            chunks.append(chunk)
            done.append(done[-1] + len(chunk))
            times.append(time.perf_counter())
            progress(done[-1] / every, f"{len(timed):,} cells")
        total += class_probabilities(np.concatenate(chunks), len(dataset.classes))
    first = 1 if len(done) > 2 else 0
    milliseconds = 1000 * views * (times[-1] - times[first]) / (done[-1] - done[first])
    probabilities, parts = (total / views)[: len(rows)], part.iloc[rows].to_numpy()
    if held_out:
        rows = np.concatenate([held_out.rows, rows])
        probabilities = np.concatenate([class_probabilities(held_out.logits, len(dataset.classes)), probabilities])
        parts = np.concatenate([np.full(len(held_out.rows), "validation"), parts])
    table = dataset.cells.iloc[rows][["file", "label", "subject"]].assign(part=parts)
    for column, name in enumerate(dataset.classes):
        table[f"p_{name}"] = probabilities[:, column].round(7)
    return table.reset_index(drop=True), milliseconds


def novelty(
    model: keras.Model,
    suffix: keras.Model,
    batches: Batches,
    progress: Callable[[float, str], None],
    held_out: HeldOut | None = None,
) -> Novelty:
    """Fit the novelty measure on some training cells, and its limit on some validation cells, or on held-out cells.

    The pooled features of a frozen backbone are stored already; for any other network, the cells pass through the
    layers from the split point to the layer ``pool``.
    """
    pool, to_pool = model.get_layer("pool"), None
    channels = pool.input.shape[-1] if batches.config.pooling == "flatten" else pool.output.shape[-1]
    after = frozen_layer(batches.config) if isinstance(batches.source, Features) else None
    if after != "pool":
        prefix, _ = split_model(model, after)
        to_pool = keras.Model(prefix.outputs if prefix else model.input, pool.output)
        to_pool.jit_compile = suffix.jit_compile
    rng, pooled = np.random.default_rng(batches.config.seed), {}
    for part in ("train",) if held_out else ("train", "validation"):
        rows = np.sort(rng.permutation(batches.rows[part])[:TRAINING_CELLS])
        chunks = []
        for start in range(0, len(rows), PREDICT_BATCH):
            progress(start / len(rows), f"novelty limit: {part} cells")
            inputs = batches.inputs(rows[start : start + PREDICT_BATCH])
            outputs = to_pool.predict_on_batch(inputs) if to_pool else inputs
            chunks.append(mean_over_positions(np.asarray(outputs), channels))
        pooled[part] = np.concatenate(chunks)
    if held_out:
        return Novelty.fit_in_turn(pooled["train"], held_out.fold[np.isin(held_out.rows, rows)])
    return Novelty.fit(pooled["train"], pooled["validation"])


def metrics(dataset: Dataset, part: pd.Series, predictions: pd.DataFrame, config: RunConfig) -> dict[str, Any]:
    """Return the part of metrics.json that depends on the predictions.

    The metrics are those of the test part, or of the validation part if the split has no test part; ``part`` says
    which. ``whole_pictures`` is the number of tested cells that do not stand on black, of a run that pools over the
    cell: theirs are pooled over the whole picture. ``area_auc`` is the ROC AUC of cell area alone on the same cells,
    ``stratified_auc`` that of the network among cells of equal area.
    """
    results = {}
    for name, rows in predictions.groupby("part"):
        subjects = list(rows["subject"]) if dataset.has_subjects else None
        probabilities = rows[[f"p_{c}" for c in dataset.classes]].to_numpy()
        results[name] = evaluate(
            list(rows["label"]), probabilities, dataset.classes, dataset.positive, subjects=subjects
        )
    tested = "test" if "test" in results else "validation"
    places = np.flatnonzero(dataset.cells["file"].isin(predictions["file"][predictions["part"] == tested]))
    table = dataset.cells.iloc[places]
    is_positive = (table["label"] == dataset.positive).to_numpy()
    cells = cell_store(dataset, config.input_size)
    areas = []
    for chunk in np.array_split(places, len(places) // 256 + 1):
        areas.append(cell_area(cells[chunk]))
        release(cells)
    area = np.concatenate(areas)
    scores = predictions.set_index("file").loc[table["file"], f"p_{dataset.positive}"].to_numpy()
    group, _ = groups(list(table["subject"]) if dataset.has_subjects else None, len(table))
    stratified, interval = stratified_auc(area, scores, is_positive, group)
    whole = int((area > ON_BLACK * cells[0, ..., 0].size).sum()) if config.pooling == "cell" else 0
    return {
        **results[tested],
        "part": tested,
        "whole_pictures": whole,
        "test_set": cells_hash(table["sha256"]),
        "validation": results["validation"],
        "split": describe_split(dataset.cells, part, config.split.kind),
        "leaks": len(find_leaks(dataset.cells, part)),
        "area_auc": area_auc(area, is_positive),
        "stratified_auc": stratified,
        "stratified_auc_interval": None if interval is None else list(interval),
    }
