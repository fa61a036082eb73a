"""Export of a finished run as one file for other programs: .keras, ONNX and LiteRT.

Every file takes raw RGB, computes in float32, returns the probabilities of the run's classes, and contains its own
description (`metadata`). Each file is run on a few cells, and kept only if it gives the app's probabilities. A file
classifies the untransformed cell; where a run averages views, users of the file must average them too, as the check
does. TensorFlow is imported with the first export.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leukodash.atomic_write import is_full, replacing
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image
from leukodash.data.views import mean_over_views
from leukodash.errors import ImageError, RunError
from leukodash.export.export_formats import FORMATS, NOTICE
from leukodash.inference.decision import decision
from leukodash.progress import Progress
from leukodash.runs.run_cells import cell_paths
from leukodash.runs.run_folder import Run

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a probability: another summation order in float32 differs by 1e-6, a wrong channel order by 0.1
CHECKED_CELLS = 8


@dataclass(frozen=True)
class Exported:
    """An exported and checked file.

    Attributes:
        path: path of the file.
        cells: number of cells that it was checked on.
        difference: largest difference between its probabilities and those of the run's network in float32.
        precision: the app's precision for this run, ``"float32"`` or ``"bfloat16"``.
        app_difference: largest difference from the app's probabilities: `difference`, unless the app uses bfloat16.
        other_class: cells that the app puts into another class, all because of rounding in bfloat16.
        views: number of views per cell that the check averaged, as the app does.
    """

    path: Path
    cells: int
    difference: float
    precision: str
    app_difference: float
    other_class: int
    views: int = 1

    @property
    def words(self) -> str:
        """One or two sentences on how closely the file matches the app."""
        checked = f"Checked on {self.cells} cells"
        if self.views > 1:
            checked = f"The app averages {self.views} views of a cell; this file classifies one. {checked}"
            checked += f", averaged over their {self.views} views"
        if self.precision == "float32":
            return f"{checked}: its probabilities equal the app's to within {_power_of_ten(self.difference)}."
        moved = f"and changes the class of {self.other_class} of them" if self.other_class else "and changes no class"
        return (
            f"{checked}: its probabilities equal those of this network in float32 to within "
            f"{_power_of_ten(self.difference)}. The app computes this run in {self.precision}, which has "
            f"fewer digits; this shifts probabilities by up to {self.app_difference:.1g} {moved}."
        )


def export(run: Run, format: str, folder: Path, progress: Progress | None = None) -> Exported:
    """Write a run as ``<run id>.<suffix>``, and keep the file only if it gives the app's probabilities.

    Raises:
        RunError: unknown format, the run has not finished, the folder cannot be written, a package is missing, or the
            file does not give the app's probabilities to within `TOLERANCE`.
        WeightsError: see `classifier.load`.
    """
    say = progress or (lambda fraction, words: None)
    if format not in FORMATS:
        raise RunError(f"There is no format '{format}'. Choose one of {', '.join(FORMATS)}.")
    kind = FORMATS[format]
    say(0.0, "loading the network")
    from leukodash.inference.classifier import load

    classifier = load(run, lambda fraction, words: say(0.2 * fraction, words))
    say(0.2, "computing reference probabilities")
    cells = check_cells(run, classifier.size)
    app, precision, classes = classifier.predict(cells), classifier.precision, len(classifier.classes)
    model = float32_model(classifier.model, classes, kind.standard_layers)
    del classifier  # VGG16 with its paper's head is 568 MB
    views = run.trained.answer_views
    expected = app if precision == "float32" else mean_over_views(model.predict_on_batch, cells, views)
    path = folder / f"{run.id}{kind.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            say(0.3, f"writing {kind.title}")
            with _quiet():
                kind.write(model, temporary, metadata(run))
            del model
            say(0.7, f"running the {kind.title} file on {len(cells)} cells")
            outputs = mean_over_views(lambda batch: kind.outputs(temporary, batch), cells, views)
            difference = float(np.abs(outputs - expected).max())
            if not difference <= TOLERANCE:  # NaN fails too
                raise RunError(
                    f"The {kind.title} file of {run.title} gives different probabilities from the app (by up to "
                    f"{difference:.2g} on {len(cells)} cells), so it was discarded. Choose another format."
                )
    except OSError as error:
        advice = "Free some space" if is_full(error) else "Choose a folder that you can write to"
        raise RunError(f"The file cannot be written to '{folder}' ({error}). {advice}.") from error
    say(1.0, "done")
    other_class = int((outputs.argmax(axis=1) != app.argmax(axis=1)).sum())
    return Exported(path, len(cells), difference, precision, float(np.abs(outputs - app).max()), other_class, views)


def check_cells(run: Run, size: int) -> np.ndarray:
    """Return the cells that a file is checked on, float32 (n, size, size, 3), RGB 0 to 255.

    They span the run's cells from the least to the most probable blast, so that agreement is meaningful. Generated
    cells replace them if the data set is not on this machine.
    """
    from leukodash.data.demo_cells import demo_cell, subject_stain
    from leukodash.data.images import square

    rows = run.predictions
    column = f"p_{run.model['positive']}"
    images = []
    if column in rows:
        rows = rows.sort_values(column, ignore_index=True)
        chosen = np.unique(np.linspace(0, max(0, len(rows) - 1), min(CHECKED_CELLS, len(rows))).astype(int))
        with contextlib.suppress(ImageError, OSError):
            images = [read_image(path) for path in cell_paths(run, rows["file"][chosen]).values()]
    if not images:
        rng = np.random.default_rng(0)
        images = [demo_cell(rng, number % 2 == 0, subject_stain(rng))[0] for number in range(CHECKED_CELLS)]
    return np.stack([square(image, size) for image in images]).astype(np.float32)


def float32_model(model: keras.Model, classes: int, standard_layers: bool = True) -> keras.Model:
    """Copy a run's network for other programs: float32 throughout, one output per class, and only Keras layers.

    Two parts are rewritten. Reversing RGB to BGR becomes, with the rest of the preprocessing, a 1×1 convolution, which
    every program has. And the layers of LeukoDash, GoogLeNet's normalization and pooling over the cell, become the
    operations that they consist of.

    Args:
        model: from `models.build.build`, in any precision.
        classes: number of classes. Output units beyond them (Mamaev's third) are left out.
        standard_layers: False to keep LeukoDash's layers.
    """
    import keras

    from leukodash.models.build import CellMask, CellStatistics
    from leukodash.models.googlenet import LocalResponseNormalization

    reversed_channels = any(type(operation).__name__ == "Flip" for operation in model.operations)
    cell = keras.Input(model.input_shape[1:], name="cell")

    def clone(layer: keras.Operation) -> keras.Operation:
        if layer.name == "preprocessing" and reversed_channels:
            return keras.layers.Conv2D(3, 1, name=layer.name, trainable=False)
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer):  # but not an operation, such as Flip
            config["dtype"] = "float32"
        if layer.name == "logits":
            config["units"] = classes
        return type(layer).from_config(config)

    def call(layer: keras.Operation, *inputs: Any, **options: Any) -> Any:
        if layer.name == "preprocessing" and reversed_channels:
            return layer(cell)
        expanded = standard_layers and isinstance(layer, (LocalResponseNormalization, CellMask, CellStatistics))
        return layer.call(*inputs) if expanded else layer(*inputs, **options)

    copy = keras.models.clone_model(model, input_tensors=cell, clone_function=clone, call_function=call)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name == "logits":
            weights = [values[..., :classes] for values in weights]
        elif layer.name == "preprocessing" and reversed_channels:
            weights = [layer.scale * np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3), np.array(layer.offset)]
        if weights:
            copy.get_layer(layer.name).set_weights(weights)
    return copy


def metadata(run: Run) -> dict[str, Any]:
    """Return a file's description of itself: classes, input and output, threshold, origin, and excluded uses."""
    config, made, chosen = run.trained, run.model, decision(run, "validation")
    size, classes, pretrained = config.input_size, made["classes"], config.weights == "imagenet"
    return {
        "notice": NOTICE,
        "title": run.title,
        "run": run.id,
        "made_by": "LeukoDash",
        "network": config.spec.title,
        "paper": config.spec.paper,
        "classes": classes,
        "class_titles": [label_title(label) for label in classes],
        "positive": made["positive"],
        "input": f"float32 (n, {size}, {size}, 3), RGB, 0 to 255: one cell per image, on black, padded to a square "
        "with black without stretching, then resized. No further preprocessing: it is part of the file.",
        "output": f"float32 (n, {len(classes)}): the probability of each class, in the order of classes.",
        "views": config.answer_views,
        "views_mean": "the app averages the probabilities of this many views of a cell: unchanged, flipped "
        "left-right, flipped top-bottom, both; views 5 to 8 are the same with rows and columns swapped. Accuracy, "
        "threshold and temperature refer to these averages.",
        "threshold": chosen.threshold,
        "threshold_means": "positive class from this probability, chosen on validation cells; null: none chosen",
        "temperature": chosen.temperature.value,
        "temperature_means": "softmax(log(probabilities) / temperature) is calibrated on validation cells",
        "trained_on": "generated demo cells, never real ones" if made.get("generated") else "images of cells",
        "test_accuracy": run.metrics.get("accuracy"),
        "test_cells": run.metrics.get("n"),
        "pretrained_weights": config.spec.weights.url if pretrained else None,
        "licence_of_pretrained_weights": config.spec.weights.licence if pretrained else None,
    }


def _power_of_ten(difference: float) -> str:
    """Format a small difference as a power of ten: 3e-07 becomes "0.000001"."""
    digits = next((digits for digits in range(7, 0, -1) if difference <= 10**-digits), 0)
    return f"{10.0**-digits:.{digits}f}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters' warnings, which concern features that are not used here."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
