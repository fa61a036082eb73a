"""A finished run as one file that other programs run: full .keras, ONNX and LiteRT.

Every file takes raw RGB, computes in float32, gives the probabilities of the run's classes, and says in itself what it
is (`metadata`). Each is run on a few cells, and kept only where it gives the app's probabilities. A file answers for a
cell as it lies; where the run averages views, whoever uses the file does so too, and the check does. Light at import:
TensorFlow comes with the first export.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leukodash.atomic_write import temporary_name
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image
from leukodash.data.views import mean_over_views
from leukodash.errors import ImageError, RunError
from leukodash.export.export_formats import FORMATS, NOTICE
from leukodash.inference.decision import decision
from leukodash.runs.run_folder import Run

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a probability: float32 summed in another order differs by 1e-6, a wrong channel order by 0.1
CHECKED_CELLS = 8

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Exported:
    """A file that was checked.

    Attributes:
        path: where it lies.
        cells: number of images that it was checked on.
        difference: largest difference between its probabilities and those of the run's network in float32.
        precision: what the app computes this run in, ``"float32"`` or ``"bfloat16"``.
        app_difference: largest difference from the app's probabilities: `difference`, unless it uses bfloat16.
        other_class: images that the app puts into another class, all of them by rounding in bfloat16.
        views: how many views of a cell the file was asked about, and the mean taken, as the app does.
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
        """A sentence or two on how true the file is to the app."""
        checked = f"Checked on {self.cells} cells"
        if self.views > 1:
            checked = f"The app answers with the mean over {self.views} views of a cell, this file for one. {checked}"
            checked += f", the mean over their {self.views} views taken"
        if self.precision == "float32":
            return f"{checked}: its probabilities are the app's, to within {_power_of_ten(self.difference)}."
        moved = f"and moves {self.other_class} of them to the other class" if self.other_class else "and no class"
        return (
            f"{checked}: its probabilities are those of this network in float32, to within "
            f"{_power_of_ten(self.difference)}. The app computes this run in {self.precision}, with fewer digits, "
            f"which moves probabilities by up to {self.app_difference:.1g} {moved}."
        )


def export(run: Run, format: str, folder: Path, progress: Progress | None = None) -> Exported:
    """Write a finished run as ``<run id>.<suffix>``, check it on a few cells, and keep it only if it is true.

    Args:
        run: a finished run.
        format: a key of `FORMATS`.
        folder: made where it is missing.
        progress: hears the share that is done.

    Raises:
        RunError: no such format, the run has not finished, the folder cannot be written, a package is missing, or
            the file does not give the app's probabilities to `TOLERANCE`.
        WeightsError: see `predict.load`.
    """
    say = progress or (lambda fraction, words: None)
    if format not in FORMATS:
        raise RunError(f"There is no format '{format}'. Choose one of {', '.join(FORMATS)}.")
    kind = FORMATS[format]
    # tf2onnx copies all weights two dozen times: 3.9 GB for VGG16, and 2.2 GB like this. Without effect where protobuf
    # is loaded already, so an export of the app is a process of its own.
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")
    say(0.0, "loading the network")
    from leukodash.inference.classifier import load

    classifier = load(run, lambda fraction, words: say(0.2 * fraction, words))
    say(0.2, "asking the app")
    cells = check_cells(run, classifier.size)
    app, precision, classes = classifier.predict(cells), classifier.precision, len(classifier.classes)
    model = float32_model(classifier.model, classes)
    del classifier  # VGG16 with its paper's head is 568 MB
    views = run.model.get("views", 1)
    expected = app if precision == "float32" else mean_over_views(model.predict_on_batch, cells, views)
    path = folder / f"{run.id}{kind.suffix}"
    temporary = temporary_name(path).with_suffix(kind.suffix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        say(0.3, f"writing {kind.title}")
        with _quiet():
            kind.write(model, temporary, metadata(run))
        del model
        say(0.7, f"running the {kind.title} file on {len(cells)} cells")
        found = mean_over_views(lambda some: kind.outputs(temporary, some), cells, views)
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:  # not a number is no agreement either
            raise RunError(
                f"The {kind.title} file of {run.title} gives other probabilities than the app (by up to "
                f"{difference:.2g} on {len(cells)} cells), so it is not offered. Choose another format."
            )
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"The file cannot be written to '{folder}' ({error}). Name a folder of your own.") from error
    finally:
        temporary.unlink(missing_ok=True)
    say(1.0, "done")
    apart = int((found.argmax(axis=1) != app.argmax(axis=1)).sum())
    return Exported(path, len(cells), difference, precision, float(np.abs(found - app).max()), apart, views)


def check_cells(run: Run, size: int) -> np.ndarray:
    """Return the cells that a file is checked on, float32 (n, size, size, 3), RGB 0 to 255.

    They are cells of the run from the least to the most probable blast, so that agreement means something. Where its
    data set is not on this machine, generated ones stand in.
    """
    from leukodash.data.demo_cells import demo_cell, subject_stain
    from leukodash.data.images import square

    rows = run.predictions
    column = f"p_{run.model['positive']}"
    images = []
    if column in rows:
        rows = rows.sort_values(column, ignore_index=True)
        picked = np.unique(np.linspace(0, len(rows) - 1, CHECKED_CELLS).astype(int)) if len(rows) else []
        with contextlib.suppress(ImageError, OSError):
            images = [read_image(Path(run.config.data) / rows["file"][place]) for place in picked]
    if not images:
        rng = np.random.default_rng(0)
        images = [demo_cell(rng, number % 2 == 0, subject_stain(rng))[0] for number in range(CHECKED_CELLS)]
    return np.stack([square(image, size) for image in images]).astype(np.float32)


def float32_model(model: keras.Model, classes: int) -> keras.Model:
    """Copy a run's network for other programs: float32 throughout, an output a class, and layers of Keras alone.

    Two things are said in plainer layers. The turn from RGB to BGR becomes a 1×1 convolution with the rest of the
    preprocessing: as an operation of its own, ONNX would have ReverseSequence, which OpenCV and browsers lack. And
    GoogLeNet's normalization, which is LeukoDash's, becomes the operations that it is made of.

    Args:
        model: from `models.build.build`, in any precision.
        classes: number of classes. Output units beyond them (Mamaev's third) are left out.
    """
    import keras

    from leukodash.models.googlenet import LocalResponseNormalization

    turned = any(type(operation).__name__ == "Flip" for operation in model.operations)
    cell = keras.Input(model.input_shape[1:], name="cell")

    def like(layer: keras.Operation) -> keras.Operation:
        if layer.name == "preprocessing" and turned:
            return keras.layers.Conv2D(3, 1, name=layer.name, trainable=False)
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer):  # and no operation, such as the turn itself
            config["dtype"] = "float32"
        if layer.name == "logits":
            config["units"] = classes
        return type(layer).from_config(config)

    def call(layer: keras.Operation, *inputs: object, **more: object) -> object:
        if layer.name == "preprocessing" and turned:
            return layer(cell)
        return layer.call(*inputs) if isinstance(layer, LocalResponseNormalization) else layer(*inputs, **more)

    copy = keras.models.clone_model(model, input_tensors=cell, clone_function=like, call_function=call)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name == "logits":
            weights = [values[..., :classes] for values in weights]
        elif layer.name == "preprocessing" and turned:
            weights = [layer.scale * np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3), np.array(layer.offset)]
        if weights:
            copy.get_layer(layer.name).set_weights(weights)
    return copy


def metadata(run: Run) -> dict[str, Any]:
    """Return what a file says of itself: classes, input and output, threshold, origin, and what it is not for."""
    config, made, chosen = run.config, run.model, decision(run, "validation")
    size, classes = config.input_size, made["classes"]
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
        "input": f"float32 (n, {size}, {size}, 3), RGB, 0 to 255: one cell an image, on black, padded to a square with "
        "black, never stretched, then scaled. Nothing else: preprocessing is in the file.",
        "output": f"float32 (n, {len(classes)}): the probability of each of the classes, in their order.",
        "views": made.get("views", 1),
        "views_mean": "the app answers with the mean of the probabilities over so many views of a cell: as it is, "
        "mirrored left-right, top-bottom, both; from 5 on the same with rows and columns swapped. The accuracy, the "
        "threshold and the temperature are of these means.",
        "threshold": chosen.threshold,
        "threshold_means": "the positive class from this probability on, chosen on validation cells; null: none was",
        "temperature": chosen.temperature.value,
        "temperature_means": "softmax(log(probabilities) / temperature) is calibrated on validation cells",
        "trained_on": "generated demo cells, never real ones" if made.get("generated") else "images of cells",
        "test_accuracy": run.metrics.get("accuracy"),
        "test_cells": run.metrics.get("n"),
        "pretrained_weights": None if made.get("random_start") else config.spec.weights.url,
        "licence_of_pretrained_weights": None if made.get("random_start") else config.spec.weights.licence,
    }


def _power_of_ten(difference: float) -> str:
    """Say how small a difference is: 3e-07 is "one millionth" to nobody, so "0.000001"."""
    digits = next((digits for digits in range(7, 0, -1) if difference <= 10**-digits), 0)
    return f"{10.0**-digits:.{digits}f}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' remarks out of a page's log and a terminal: they speak of what is not used here."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
