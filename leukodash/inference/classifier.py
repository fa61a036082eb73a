"""Finished runs, loaded to classify images.

A run is served in the precision that it was trained in, by the same compiled step: then a cell's probabilities are
those of predictions.csv to about 1e-7 in float32 and in bfloat16. Served in float32, VGG16 trained in bfloat16 is off
by up to 0.025. Where that cannot be had, float32 stands in: float16 belongs to GPUs, and the app leaves those to
training; bfloat16 without units for it takes minutes.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from leukodash.cam.gradients import PREDICTED, GradientModel
from leukodash.cam.methods import heat, masked_class_probability
from leukodash.data.images import square
from leukodash.data.views import mean_over_views
from leukodash.errors import RunError, WeightsError
from leukodash.evaluation.novelty import Novelty
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.build import SCALED, build, class_probabilities, load_trained
from leukodash.models.weights import identity, obtain_weights
from leukodash.runs.run_folder import Run

BATCH = 16  # VGG16's first feature maps of 16 cells take 200 MB
LARGEST = 8_000_000  # numbers in a batch of feature maps: early layers of VGG16 hold 3 million a cell

Progress = Callable[[float, str], None]

# Thirty sessions share the memory and the cores: one batch runs, or one model loads, at a time.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Answer:
    """What one run says of one image.

    Attributes:
        probabilities: float64 (classes,), the network's own; where the run averages views, their mean.
        heat: float32 (h, w), 0 to 1, at the resolution of the layer, of the image as it lies; see `cam.heat`.
        novelty: how unlike the training cells it is; NaN where the run cannot say.
    """

    probabilities: np.ndarray
    heat: np.ndarray
    novelty: float


class Classifier:
    """A finished run, ready to classify; made by `load`.

    Attributes:
        run: the run.
        model: its flat network, raw RGB in.
        classes: labels, in the order of the probabilities.
        positive: the class whose sensitivity is reported.
        size: pixels a side that the network sees.
        precision: ``"float32"`` or ``"bfloat16"``.
        novelty: what its training cells look like to it, or None where the run has kept nothing of that.
        views: how many views of a cell an answer is the mean of; one, unless the run averages.
    """

    def __init__(self, run: Run, model: keras.Model, precision: str) -> None:
        self.run, self.precision, self.model = run, precision, model
        self.classes, self.positive = tuple(run.model["classes"]), run.model["positive"]
        self.size, self._layer = model.input_shape[1], run.config.spec.cam_layer
        self.novelty = Novelty.load(run.path)
        self.views: int = run.model.get("views", 1)
        self._gradient_models: dict[str, GradientModel] = {}

    @property
    def pools_blocks(self) -> bool:
        """Whether the head sees the maps behind every block; a run without pretrained weights never does."""
        return any(layer.name == SCALED for layer in self.model.layers)

    @property
    def layers(self) -> list[str]:
        """The layers that a heat map can be of, the last one first."""
        inside = self.model.layers[: self.model.layers.index(self.model.get_layer("pool"))]
        places = [layer for layer in inside if len(layer.output.shape) == 4 and layer.output.shape[1] > 1]
        return [layer.name for layer in reversed(places) if layer.name not in ("cell", "preprocessing")]

    def predict(
        self, images: np.ndarray | Sequence[np.ndarray], progress: Progress | None = None, *, upright: bool = False
    ) -> np.ndarray:
        """Return the probability of each class, float64 (n, classes), rows that sum to one.

        Args:
            images: uint8 RGB images (H, W, 3) of any size, or an array of them; padded to a square and scaled as
                for training.
            progress: hears the share that is done.
            upright: ask about the images as they lie alone, as heat maps do, though the run averages views.
        """
        views = 1 if upright else self.views
        found = [self._mean(batch, views) for batch in self._batches(images, BATCH, progress)]
        return np.concatenate(found) if found else np.zeros((0, len(self.classes)))

    def classify_with_maps(
        self, images: np.ndarray | Sequence[np.ndarray], method: str = "gradcam", **asked: object
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities as from `predict`, and maps, float32 (n, h, w), as from `answer` (see there)."""
        answers = self.answer(images, (method,), **asked)[method]
        if not answers:
            return np.zeros((0, len(self.classes))), np.zeros((0, 1, 1), np.float32)
        return np.stack([one.probabilities for one in answers]), np.stack([one.heat for one in answers])

    def answer(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        methods: Sequence[str] = ("gradcam",),
        target: str | None = None,
        layer: str | None = None,
        progress: Progress | None = None,
    ) -> dict[str, list[Answer]]:
        """Classify, and show in the same forward pass which places spoke for a class.

        Args:
            images: as for `predict`.
            methods: keys of `cam.METHODS`.
            target: the class to explain; by default each image's likeliest.
            layer: one of `layers`; by default the backbone's last one with a spatial extent.
            progress: hears the share that is done.

        Returns:
            By method an answer for each image. Maps have the resolution of the layer (7×7 for most networks at 224
            pixels); `figures.overlay.overlay` scales them up.

        Raises:
            RunError: no such method, class or layer.
        """
        if target is not None and target not in self.classes:
            raise RunError(f"{self.run.title} knows no class '{target}'. Choose one of {', '.join(self.classes)}.")
        wanted = PREDICTED if target is None else self.classes.index(target)
        gradient_model = self.gradient_model(layer)
        fit = max(1, min(BATCH, LARGEST // int(np.prod(self.model.get_layer(layer or self._layer).output.shape[1:]))))
        answers: dict[str, list[Answer]] = {method: [] for method in methods}
        for batch in self._batches(images, fit, progress):
            explained, probabilities = np.full(len(batch), wanted), None
            if self.views > 1:  # the class that all views together find is explained in the first of them
                probabilities = self._mean(batch, self.views)
                explained = probabilities.argmax(axis=1) if target is None else explained
            with _ONE_AT_A_TIME:
                evidence = gradient_model.gradients(batch, explained)
            probabilities = self._probabilities(evidence.logits) if probabilities is None else probabilities
            explained = probabilities.argmax(axis=1) if target is None else explained
            novelty = self.novelty.score(evidence.pooled) if self.novelty else np.full(len(batch), np.nan)
            ask = masked_class_probability(batch, explained, self._seen)
            for method in methods:
                maps = heat(method, evidence.activations, evidence.gradients, ask)
                answers[method] += map(Answer, probabilities, maps, novelty.tolist())
        return answers

    def gradient_model(self, layer: str | None = None) -> GradientModel:
        """Return the network, cut behind one of its `layers`; without a name, behind the default one."""
        layer = layer or self._layer
        if layer not in self._gradient_models:
            with _ONE_AT_A_TIME:
                self._gradient_models[layer] = GradientModel(self.model, layer, len(self.classes))
        return self._gradient_models[layer]

    def _seen(self, images: np.ndarray) -> np.ndarray:
        return self._mean(images, 1)

    def _mean(self, batch: np.ndarray, views: int) -> np.ndarray:
        """Return the mean of the probabilities of the first views of float32 images (n, size, size, 3)."""
        gradient_model = self.gradient_model()

        def ask(images: np.ndarray) -> np.ndarray:
            with _ONE_AT_A_TIME:
                return self._probabilities(gradient_model.logits(images)[0])

        return mean_over_views(ask, batch, views)

    def _batches(self, images: Sequence[np.ndarray], size: int, progress: Progress | None) -> Iterator[np.ndarray]:
        for start in range(0, len(images), size):
            if progress:
                progress(start / len(images), f"{start:,} of {len(images):,} cells")
            some = images[start : start + size]
            yield np.stack([square(image, self.size) for image in some]).astype(np.float32)

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return class_probabilities(logits.astype(np.float64), len(self.classes))


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
    weights = None if config.weights == "random" else obtain_weights(config.spec, progress)
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
        load_trained(model, run.weights)
        return Classifier(run, model, precision)


def _stay_on_cpu() -> None:
    """Hide GPUs from TensorFlow in this process. Its children, which train, keep theirs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow is at work already, as in tests: it stays where it is
            tf.config.set_visible_devices([], "GPU")
