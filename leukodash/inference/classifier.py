"""Finished runs, loaded to classify images.

A run is served in the precision that it was trained in, by the same compiled step, so that probabilities equal those of
predictions.csv to about 1e-7, in float32 and in bfloat16. In float32, a VGG16 trained in bfloat16 would be off by up to
0.025. float32 replaces float16, which only GPUs support (the app leaves them to training), and bfloat16 on processors
without bfloat16 units, where it takes minutes.

In float32, a run that trained a head over pooled feature maps needs no TensorFlow: its frozen layers are a program
(`models.program`), its head is a few lines of NumPy. Keras' model is built for what needs gradients of other layers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from leukodash.cam.gradient_result import PREDICTED, GradientResult
from leukodash.cam.methods import GRADIENT_METHODS, heat_maps, masked_class_probability, scaled
from leukodash.cam.pooled_network import PooledNetwork, keras_network
from leukodash.data.images import square
from leukodash.data.views import mean_over_views
from leukodash.errors import RunError
from leukodash.evaluation.novelty import Novelty
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import EVERY_BLOCK
from leukodash.models.head import class_probabilities, has_pooled_head, read_head
from leukodash.models.program import find_program, load_program, pooled_features, write_program
from leukodash.models.weights import obtain_weights
from leukodash.progress import Progress
from leukodash.runs.run_folder import Run

if TYPE_CHECKING:
    import keras

BATCH = 16  # VGG16's first feature maps of 16 cells take 200 MB
POOLED_BATCH = 4  # the maps after every block of 4 cells take 50 MB
MAX_BATCH_VALUES = 8_000_000  # values in a batch of feature maps: early layers of VGG16 hold 3 million per cell

GRAPH_BYTES = 400_000  # that TensorFlow takes for a layer of a network, beside the weights; measured on MobileNet

# Thirty sessions share memory and cores: only one batch or one loading model at a time. Keras is no place for several
# threads either: whatever builds, calls or changes a model holds this lock.
MODEL_LOCK = threading.RLock()


@dataclass(frozen=True)
class Answer:
    """Answer of one run for one image.

    Attributes:
        probabilities: float64 (classes,), uncalibrated; the mean over views if the run averages views.
        heat: float32 (h, w), 0 to 1, at the resolution of the layer, for the untransformed image.
        novelty: distance from the training cells; NaN if the run has no novelty score.
        score: how much higher the logit of the explained class is than that of the others, compared with the mean
            training cell; NaN for runs that trained more than a head.
        score_shown: what the mapped feature maps contribute to it; NaN for layers before the last.
    """

    probabilities: np.ndarray
    heat: np.ndarray
    novelty: float
    score: float = float("nan")
    score_shown: float = float("nan")


class Network(Protocol):
    """What classifies and explains: `cam.pooled_network.PooledNetwork` or `cam.gradients.GradientModel`."""

    def logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...  # noqa: D102

    def gradients(self, images: np.ndarray, target: np.ndarray) -> GradientResult: ...  # noqa: D102


class Classifier:
    """A finished run, ready to classify; create it with `load`.

    Args:
        run: the run.
        precision: see below.
        model: its flat Keras model; None to build it when something needs it.
        pooled: the network, if only a head over pooled feature maps was trained and Keras is not needed to run it.

    Attributes:
        run: the run.
        classes: labels, in the order of the probabilities.
        positive: the class whose sensitivity is reported.
        size: input size in pixels.
        precision: ``"float32"`` or ``"bfloat16"``.
        novelty: its novelty score, or None if the run stored none.
        views: number of views of a cell that an answer averages; 1 without averaging.
    """

    def __init__(
        self, run: Run, precision: str, model: keras.Model | None = None, pooled: PooledNetwork | None = None
    ) -> None:
        self.run, self.precision, self._model = run, precision, model
        self.classes, self.positive = tuple(run.model["classes"]), run.model["positive"]
        self.size, self._layer = run.trained.input_size, run.config.spec.cam_layer
        self.novelty = Novelty.load(run.path)
        self.views = run.trained.answer_views
        self._weight_bytes = 4 * run.model.get("parameters", run.config.spec.parameters)
        self._has_program = pooled is not None
        if pooled is None and has_pooled_head(run.trained):
            with MODEL_LOCK:
                pooled = keras_network(self.model, run.trained, len(self.classes))
        self._pooled, self._networks = pooled, dict[str, Network]()

    @property
    def model(self) -> keras.Model:
        """The run's flat Keras model, which takes raw RGB; built on first use."""
        with MODEL_LOCK:
            if self._model is None:
                self._model = keras_model(self.run, self.precision)
            return self._model

    @property
    def size_bytes(self) -> int:
        """The memory that it takes, as an estimate: its weights, once for the program and once for Keras' model."""
        if self._model is None:
            return self._weight_bytes
        return (1 + self._has_program) * self._weight_bytes + GRAPH_BYTES * len(self._model.layers)

    def waits_for_keras(self, method: str, layer: str | None = None) -> bool:
        """Whether a map must wait until Keras' model is built, about ten seconds with TensorFlow."""
        return self._model is None and not self._without_keras(method, layer)

    def load_keras(self) -> None:
        """Build Keras' model, so that no map has to wait for it."""
        _ = self.model

    @property
    def pools_blocks(self) -> bool:
        """Whether the head sees the maps behind every block."""
        return self.run.trained.pooling in EVERY_BLOCK

    @property
    def layers(self) -> list[str]:
        """The layers that a heat map is offered for, the last one first: those that end a block."""
        ends = [block.after for block in self.run.config.spec.blocks]
        return list(dict.fromkeys([self._layer, *reversed(ends)]))

    def together(self, method: str) -> tuple[str, ...]:
        """Return the methods whose maps one pass gives at once, the given one among them."""
        separate = self._pooled is not None and not self.run.config.spec.cam_layer_is_output
        group = GRADIENT_METHODS if separate else ("evidence", *GRADIENT_METHODS)
        return group if method in group else (method,)

    def predict(
        self, images: np.ndarray | Sequence[np.ndarray], progress: Progress | None = None, *, single_view: bool = False
    ) -> np.ndarray:
        """Return the probability of each class, float64 (n, classes), rows that sum to one.

        Args:
            images: uint8 RGB images (H, W, 3) of any size, or an array of them; padded to a square and resized as
                for training.
            single_view: classify the untransformed images only, as heat maps do, even if the run averages views.
        """
        views = 1 if single_view else self.views
        parts = [self._mean_probabilities(batch, views) for batch in self._batches(images, BATCH, progress)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)))

    def classify_with_maps(
        self, images: np.ndarray | Sequence[np.ndarray], method: str = "gradcam", **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities as `predict` does, and maps, float32 (n, h, w), from `answer` with these options."""
        answers = self.answer(images, (method,), **options)[method]
        if not answers:
            return np.zeros((0, len(self.classes))), np.zeros((0, 1, 1), np.float32)
        return np.stack([answer.probabilities for answer in answers]), np.stack([answer.heat for answer in answers])

    def answer(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        methods: Sequence[str] = ("gradcam",),
        target: str | None = None,
        layer: str | None = None,
        progress: Progress | None = None,
    ) -> dict[str, list[Answer]]:
        """Classify images, and compute heat maps in the same forward pass.

        Args:
            images: as for `predict`.
            methods: keys of `cam.methods.METHODS`; several of them as `together` has them.
            target: the class to explain; by default the predicted class of each image.
            layer: one of `layers`; by default the backbone's last one with spatial dimensions.

        Returns:
            For each method, one answer per image. Maps have the resolution of the layer (7×7 for most networks at 224
            pixels); `figures.heat_overlay.overlay` resizes them.

        Raises:
            RunError: unknown method, class or layer.
        """
        if target is not None and target not in self.classes:
            raise RunError(f"{self.run.title} has no class '{target}'. Choose one of {', '.join(self.classes)}.")
        wanted = PREDICTED if target is None else self.classes.index(target)
        network = self.network(layer, methods[0])
        answers: dict[str, list[Answer]] = {method: [] for method in methods}
        for batch in self._batches(images, self._fitting(network, layer), progress):
            explained, probabilities = np.full(len(batch), wanted), None
            if self.views > 1:  # the class predicted by all views is explained in the first one
                probabilities = self._mean_probabilities(batch, self.views)
                explained = probabilities.argmax(axis=1) if target is None else explained
            with MODEL_LOCK:
                result = network.gradients(batch, explained)
            probabilities = self._probabilities(result.logits) if probabilities is None else probabilities
            explained = probabilities.argmax(axis=1) if target is None else explained
            novelty = self.novelty.score(result.pooled) if self.novelty else np.full(len(batch), np.nan)
            masked_probability = masked_class_probability(
                batch, explained, lambda images: self._mean_probabilities(images, 1)
            )
            for method in methods:
                if method == "evidence" and result.evidence is not None:
                    maps = scaled(result.evidence)
                else:
                    maps = heat_maps(method, result.activations, result.gradients, masked_probability)
                whole = method == "evidence" and result.evidence is not None
                scores = self._scores(result, explained, whole, layer)
                answers[method] += map(Answer, probabilities, maps, novelty.tolist(), *scores)
        return answers

    def _scores(
        self, result: GradientResult, explained: np.ndarray, whole: bool, layer: str | None
    ) -> tuple[list[float], list[float]]:
        """Return `Answer.score` and `Answer.score_shown` of each image; `whole`: the map shows all pooled maps."""
        n, default = len(explained), layer in (None, self._layer)
        if self._pooled is None:
            return [float("nan")] * n, [float("nan")] * n
        head, direction = self._pooled.head, self._pooled.direction(result.logits, explained)
        parts = head.gradients(result.pooled, direction) * (result.pooled - head.mean)
        numbers = 2 if self.run.trained.pooling == "cell" else 1  # of each map: mean, deviation
        last = numbers * result.activations.shape[-1]
        shown = parts if whole or not self.pools_blocks else parts[:, -last:]
        return parts.sum(axis=1).tolist(), shown.sum(axis=1).tolist() if default else [float("nan")] * n

    def network(self, layer: str | None = None, method: str = "gradcam") -> Network:
        """Return what explains one of the network's layers, by default the last one that has a spatial extent.

        Raises RunError for a layer without feature maps.
        """
        if self._pooled and self._without_keras(method, layer):
            return self._pooled
        layer = layer or self._layer
        if layer not in self._networks:
            from leukodash.cam.gradients import GradientModel

            with MODEL_LOCK:
                self._networks[layer] = GradientModel(self.model, layer, len(self.classes))
        return self._networks[layer]

    def _without_keras(self, method: str, layer: str | None) -> bool:
        """Whether the pooled network explains this layer by this method."""
        last = layer in (None, self._layer) and self._pooled is not None
        return last and (method == "evidence" or self.run.config.spec.cam_layer_is_output)

    def _mean_probabilities(self, batch: np.ndarray, views: int) -> np.ndarray:
        """Return the mean of the probabilities of the first views of float32 images (n, size, size, 3)."""
        network = self._pooled or self.network()

        def predict(images: np.ndarray) -> np.ndarray:
            with MODEL_LOCK:
                return self._probabilities(network.logits(images)[0])

        return mean_over_views(predict, batch, views)

    def _fitting(self, network: Network, layer: str | None) -> int:
        """Return how many images fit into a batch, given the size of the layer's feature maps."""
        if network is self._pooled:
            return POOLED_BATCH
        values = int(np.prod(self.model.get_layer(layer or self._layer).output.shape[1:]))
        return max(1, min(BATCH, MAX_BATCH_VALUES // values))

    def _batches(
        self, images: np.ndarray | Sequence[np.ndarray], size: int, progress: Progress | None
    ) -> Iterator[np.ndarray]:
        for start in range(0, len(images), size):
            if progress:
                progress(start / len(images), f"{start:,} of {len(images):,} cells")
            batch = images[start : start + size]
            yield np.stack([square(image, self.size) for image in batch]).astype(np.float32)

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return class_probabilities(logits.astype(np.float64), len(self.classes))


def starts_without_keras(run: Run) -> bool:
    """Whether `load` needs no TensorFlow, which takes about ten seconds the first time."""
    made, config = run.model, run.trained
    program = find_program(config.spec, config.weights_sha256)
    return _precision(made) == "float32" and has_pooled_head(config) and program is not None


def _precision(made: dict[str, Any]) -> str:
    return "bfloat16" if made.get("precision") == "bfloat16" and cpu_has_bfloat16() else "float32"


def load(run: Run, progress: Progress | None = None) -> Classifier:
    """Return the classifier of a finished run.

    Without TensorFlow where the run allows it (see the module). A program that does not exist yet is made by Keras
    once, from the pretrained weights; `progress` reports a download of these, if one is needed.

    Raises:
        RunError: the run has not finished.
        WeightsError: the pretrained weights are unavailable or not the run's, or the trained layers are damaged.
    """
    made = run.model
    if not run.metrics or not made:
        raise RunError(f"{run.title} has not finished, so it cannot classify yet. Choose a finished run.")
    config, classes = run.trained, len(made["classes"])
    precision = _precision(made)
    if precision == "bfloat16" or not has_pooled_head(config):
        return Classifier(run, precision, keras_model(run, precision, progress))
    model, path = None, find_program(config.spec, config.weights_sha256)
    if path is None:
        model = keras_model(run, precision, progress)
        with MODEL_LOCK:
            path = write_program(config.spec, model, config.weights_sha256 or "")
    if path is None:
        return Classifier(run, precision, model)
    head = read_head(run.weights)
    forward = pooled_features(load_program(path), config)
    network = PooledNetwork(forward, lambda: head, classes, config.pooling == "cell")
    return Classifier(run, precision, model, network)


def keras_model(run: Run, precision: str, progress: Progress | None = None) -> keras.Model:
    """Build the network of a finished run from its config, pretrained weights and trained layers.

    It runs on the CPU; GPUs are reserved for training. Raises WeightsError as `load` does.
    """
    from leukodash.models.build import build, load_trained

    config = run.trained
    weights = None if config.weights == "random" else obtain_weights(config.spec, progress, config.weights_sha256)
    with MODEL_LOCK:
        _stay_on_cpu()
        model = build(config, len(run.model["classes"]), weights, precision)
        load_trained(model, run.weights)
        return model


def _stay_on_cpu() -> None:
    """Hide GPUs from TensorFlow in this process. Child processes, which train, still see them."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow is initialized already, as in tests
            tf.config.set_visible_devices([], "GPU")
