"""Finished runs, loaded to classify images: what the classify page and the command line both call.

A run is served in the precision that it was trained in, by the same compiled step: then a cell's probabilities are
those of predictions.csv to about 1e-7 in float32 and in bfloat16. Served in float32, VGG16 trained in bfloat16 is off
by up to 0.025. Where that cannot be had, float32 stands in: float16 belongs to GPUs, and the app leaves those to
training; bfloat16 without units for it takes minutes.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd

from leukodash.data.dataset import printable
from leukodash.data.images import read_image, square
from leukodash.errors import ImageError, RunError, WeightsError
from leukodash.explain.cam import PREDICTED, Cut, heat
from leukodash.figures.cells import lift
from leukodash.figures.overlay import overlay
from leukodash.models.build import build, class_probabilities, load_trained
from leukodash.models.weights import identity, obtain_weights
from leukodash.runs.folder import Run
from leukodash.runs.machine import cpu_has_bfloat16

BATCH = 16  # VGG16's first feature maps of 16 cells take 200 MB
OVERLAY_SIZE = 320  # pixels a side of written overlays
KEPT_ANSWERS = 50_000  # a few hundred bytes each

Progress = Callable[[float, str], None]
Source = Path | tuple[str, bytes]

# Thirty sessions share the memory and the cores: one batch runs, or one model loads, at a time.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Answer:
    """What one run says of one image.

    Attributes:
        probabilities: float64 (classes,).
        heat: float32 (h, w), 0 to 1, at the resolution of the layer; see `cam.heat`.
    """

    probabilities: np.ndarray
    heat: np.ndarray


class Classifier:
    """A finished run, ready to classify; made by `load`.

    Attributes:
        run: the run.
        classes: labels, in the order of the probabilities.
        positive: the class whose sensitivity is reported.
        size: pixels a side that the network sees.
        precision: ``"float32"`` or ``"bfloat16"``.
    """

    def __init__(self, run: Run, model: keras.Model, precision: str) -> None:
        self.run, self.precision, self._model = run, precision, model
        self.classes, self.positive = tuple(run.model["classes"]), run.model["positive"]
        self.size, self._layer = model.input_shape[1], run.config.row.cam_layer
        self._cuts: dict[str, Cut] = {}

    def predict(self, images: np.ndarray | Sequence[np.ndarray], progress: Progress | None = None) -> np.ndarray:
        """Return the probability of each class, float64 (n, classes), rows that sum to one.

        Args:
            images: uint8 RGB images (H, W, 3) of any size, or an array of them; padded to a square and scaled as
                for training.
            progress: hears the share that is done.
        """
        logits = []
        for batch in self._batches(images, progress):
            with _ONE_AT_A_TIME:
                logits.append(self._cut(self._layer).logits(batch))
        return self._probabilities(logits)

    def classify_with_maps(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        method: str = "gradcam",
        target: str | None = None,
        layer: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classify, and show in the same forward pass which places spoke for a class.

        Args:
            images: as for `predict`.
            method: a key of `cam.METHODS`.
            target: the class to explain; by default each image's likeliest.
            layer: a layer of the backbone; by default the last one with a spatial extent.
            progress: hears the share that is done.

        Returns:
            probabilities as from `predict`, and maps, float32 (n, h, w), 0 to 1, at the resolution of the layer
            (7×7 for most networks at 224 pixels). `figures.overlay.overlay` scales them up.

        Raises:
            RunError: no such method, class or layer.
        """
        if target is not None and target not in self.classes:
            raise RunError(f"{self.run.title} knows no class '{target}'. Choose one of {', '.join(self.classes)}.")
        wanted = PREDICTED if target is None else self.classes.index(target)
        all_logits, maps = [], []
        for batch in self._batches(images, progress):
            with _ONE_AT_A_TIME:
                logits, *evidence = self._cut(layer or self._layer).gradients(batch, np.full(len(batch), wanted))
            all_logits.append(logits)
            maps.append(heat(method, *evidence))
        return self._probabilities(all_logits), np.concatenate(maps) if maps else np.zeros((0, 1, 1), np.float32)

    def _cut(self, layer: str) -> Cut:
        if layer not in self._cuts:
            self._cuts[layer] = Cut(self._model, layer, len(self.classes))
        return self._cuts[layer]

    def _batches(self, images: Sequence[np.ndarray], progress: Progress | None) -> Iterator[np.ndarray]:
        for start in range(0, len(images), BATCH):
            if progress:
                progress(start / len(images), f"{start:,} of {len(images):,} cells")
            some = images[start : start + BATCH]
            yield np.stack([square(image, self.size) for image in some]).astype(np.float32)

    def _probabilities(self, logits: list[np.ndarray]) -> np.ndarray:
        if not logits:
            return np.zeros((0, len(self.classes)))
        return class_probabilities(np.concatenate(logits).astype(np.float64), len(self.classes))


def load(run: Run, progress: Progress | None = None) -> Classifier:
    """Build the network of a finished run from its config, its pretrained weights and its trained layers.

    Runs on the CPU: the GPU belongs to training.

    Args:
        run: a finished run.
        progress: hears of a download, if the pretrained weights have to be fetched.

    Raises:
        RunError: the run has not finished.
        WeightsError: the pretrained weights cannot be had or are other ones, or the trained ones are damaged.
    """
    made = run.model
    if not run.metrics or not made:
        raise RunError(f"{run.title} has not finished, so it cannot classify yet. Choose a finished run.")
    config = run.config.as_random_start() if made["random_start"] else run.config
    weights = None if config.weights == "random" else obtain_weights(config.row, progress)
    if weights and identity(weights) != made["weights_sha256"]:
        raise WeightsError(
            f"{run.title} was trained over the weights {made['weights_file']} with SHA-256 "
            f"{str(made['weights_sha256'])[:16]}…, but {weights} has {identity(weights)[:16]}…. "
            "Put the file that it was trained over into the folder LEUKODASH_WEIGHTS."
        )
    precision = "bfloat16" if made["precision"] == "bfloat16" and cpu_has_bfloat16() else "float32"
    with _ONE_AT_A_TIME:
        _stay_on_cpu()
        model = build(config, len(made["classes"]), weights, precision)
        load_trained(model, run.path / "trained.weights.h5")
        return Classifier(run, model, precision)


def classify_files(
    classifiers: Sequence[Classifier],
    files: Sequence[Source],
    method: str = "gradcam",
    known: MutableMapping[tuple, Answer] | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[np.ndarray | None]]:
    """Classify image files with several runs. A file that is no image gets a sentence, and the others go on.

    Args:
        classifiers: from `load`.
        files: paths, or (name, bytes) of uploads. Names may come from anyone.
        method: a key of `cam.METHODS`.
        known: answers by (SHA-256 of the file, run id, method). Those found here are not computed again, new ones
            are added batch by batch, so that an interrupted call loses little.
        progress: hears the share that is done, and may raise to stop.

    Returns:
        table: a row a file and run, files in order: ``position`` (0 for the first file), ``file``, ``run`` (id),
            ``class``, ``p_<class>`` for each class of any run, ``error``. An unreadable file has one row, with no
            run and the sentence in ``error``; elsewhere ``error`` is empty.
        maps: each row's heat map as in `Answer`, None where there is an error.
    """
    known = {} if known is None else known
    names, answers = _names(files), {}
    total = max(1, len(classifiers) * len(files))
    for number, classifier in enumerate(classifiers):
        for start in range(0, len(files), BATCH):
            if progress:
                done = number * len(files) + start
                progress(done / total, f"{classifier.run.title}: {start:,} of {len(files):,} cells")
            positions = range(start, min(start + BATCH, len(files)))
            chunk = [position for position in positions if not isinstance(answers.get(position), str)]
            for position, answer in _answers(classifier, [(p, files[p], names[p]) for p in chunk], method, known):
                if isinstance(answer, str):
                    answers[position] = answer
                else:
                    answers[position, classifier.run.id] = answer
    rows, maps = [], []
    for position, name in enumerate(names):
        if isinstance(answers.get(position), str):
            rows.append({"position": position, "file": name, "run": "", "class": "", "error": answers[position]})
            maps.append(None)
            continue
        for classifier in classifiers:
            answer = answers[position, classifier.run.id]
            likeliest = classifier.classes[int(answer.probabilities.argmax())]
            odds = {f"p_{label}": float(p) for label, p in zip(classifier.classes, answer.probabilities, strict=True)}
            rows.append({"position": position, "file": name, "run": classifier.run.id, "class": likeliest})
            rows[-1] |= {**odds, "error": ""}
            maps.append(answer.heat)
    labels = dict.fromkeys(label for classifier in classifiers for label in classifier.classes)
    columns = ["position", "file", "run", "class", *(f"p_{label}" for label in labels), "error"]
    return pd.DataFrame(rows, columns=columns), maps


def classify_paths(
    paths: Sequence[Path], runs: Sequence[Run], overlays: Path | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Classify image files, as the command line does; the table is that of `classify_files`, without ``position``.

    With a folder `overlays`, each cell's heat map is written there over the cell, ``<file>.<run>.png``.
    Raises RunError or WeightsError for a run that cannot be used, and RunError for a folder that cannot be written.
    """
    table, maps = classify_files([load(run, progress) for run in runs], paths, progress=progress)
    if overlays:
        try:
            overlays.mkdir(parents=True, exist_ok=True)
            for row, evidence in zip(table.itertuples(), maps, strict=True):
                if evidence is not None:
                    path = Path(paths[row.position])
                    again = sum(Path(other).stem == path.stem for other in paths[: row.position])
                    stem = f"{path.stem}-{again + 1}" if again else path.stem
                    picture = overlay(lift(square(read_image(path), OVERLAY_SIZE)), evidence)
                    png = cv2.imencode(".png", picture[..., ::-1])[1]
                    (overlays / f"{stem}.{row.run}.png").write_bytes(png.tobytes())
        except OSError as error:
            raise RunError(
                f"The heat maps cannot be written to '{overlays}' ({error.strerror}). Name a folder of your own."
            ) from error
    return table.drop(columns="position")


def _answers(
    classifier: Classifier,
    files: Iterable[tuple[int, Source, str]],
    method: str,
    known: MutableMapping[tuple, Answer],
) -> Iterator[tuple[int, Answer | str]]:
    """Answer for a batch of (position, source, name): from what is known, else by the network, else a sentence."""
    asked: dict[tuple, list[int]] = {}
    images: dict[tuple, np.ndarray] = {}
    for position, source, name in files:
        try:
            data = _bytes(source, name)
            key = (hashlib.sha256(data).hexdigest(), classifier.run.id, method)
            answer = known.get(key)
            if answer is not None:
                yield position, answer
                continue
            if key not in images:
                images[key] = square(read_image(data, name), classifier.size)
            asked.setdefault(key, []).append(position)
        except ImageError as error:
            yield position, str(error)
    if not images:
        return
    probabilities, maps = classifier.classify_with_maps(list(images.values()), method)
    for key, row, evidence in zip(images, probabilities, maps, strict=True):
        answer = Answer(row, evidence)
        with _ONE_AT_A_TIME:
            known[key] = answer
            if len(known) > KEPT_ANSWERS:
                known.pop(next(iter(known)))
        for position in asked[key]:
            yield position, answer


def _bytes(source: Source, name: str) -> bytes:
    if not isinstance(source, Path):
        return source[1]
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImageError(f"'{printable(name)}' cannot be read ({error.strerror}): check the file.") from error


def _names(files: Sequence[Source]) -> list[str]:
    """Name each file: a path as it is; an upload's name shortened, and numbered where it came before."""
    names: list[str] = []
    times: dict[str, int] = {}
    for file in files:
        if isinstance(file, Path):
            names.append(str(file))
            continue
        name = printable(file[0])
        times[name] = times.get(name, 0) + 1
        names.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return names


def _stay_on_cpu() -> None:
    """Hide GPUs from TensorFlow in this process. Its children, which train, keep theirs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow is at work already, as in tests: it stays where it is
            tf.config.set_visible_devices([], "GPU")
