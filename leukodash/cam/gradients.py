"""Feature maps of a layer, and the gradients of a class logit with respect to them: the input of every heat map.

The model is split behind the layer. The prefix runs forward once, for class and map together; only the suffix runs
backward. Gradients are those of the logit, because gradients behind the softmax vanish for confident predictions. Keras
is imported when a model is split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from leukodash.cam.gradient_result import PREDICTED, GradientResult
from leukodash.errors import RunError

if TYPE_CHECKING:
    import keras

Step = Callable[[list[np.ndarray], np.ndarray], tuple[Any, Any, Any]]  # logits, gradients, pooled


class GradientModel:
    """A flat model, split behind one layer. Raises RunError for a layer that has no feature maps.

    Args:
        model: from `models.build.build`.
        layer: name of a layer whose output is (n, h, w, channels).
        classes: number of classes; logits beyond them are never the predicted class.
    """

    def __init__(self, model: keras.Model, layer: str, classes: int) -> None:
        import keras

        from leukodash.models import build

        if layer not in {known.name for known in model.layers} or len(model.get_layer(layer).output.shape) != 4:
            raise RunError(f"{model.name} has no layer '{layer}' with feature maps. Choose a layer of the backbone.")
        prefix, _ = build.split_model(model, layer)
        assert prefix is not None  # the layer has feature maps, so it is not the input
        self.prefix = prefix
        answers = [model.get_layer(name).output for name in ("logits", "pool")]
        self.suffix = keras.Model(self.prefix.outputs, answers, name="suffix")
        # Where the GPU is hidden, Keras would compile with XLA for the CPU, which takes seconds.
        for part in (self.prefix, self.suffix):
            part.jit_compile = keras.backend.backend() == "jax"
        output = model.get_layer(layer).output
        self._index = next(number for number, tensor in enumerate(self.prefix.outputs) if tensor is output)
        step = {"tensorflow": _tensorflow_step, "jax": _jax_step}[keras.backend.backend()]
        self._step = step(self.suffix, self._index, classes)

    def logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run forward only; returns logits and pooled features as in `GradientResult`.

        Args:
            images: float32 (n, size, size, 3), RGB 0 to 255.
        """
        logits, pooled = self.suffix.predict_on_batch(_unwrap(self._run_prefix(images)))
        return np.asarray(logits), np.asarray(pooled)

    def gradients(self, images: np.ndarray, target: np.ndarray) -> GradientResult:
        """Run forward through the whole network, and backward to the split point.

        Args:
            images: float32 (n, size, size, 3), RGB 0 to 255.
            target: int (n,), the class whose logit is differentiated; `PREDICTED` for each image's predicted class.
        """
        intermediate = self._run_prefix(images)
        logits, gradients, pooled = map(np.asarray, self._step(intermediate, np.asarray(target, np.int32)))
        return GradientResult(logits, intermediate[self._index], gradients, pooled)

    def _run_prefix(self, images: np.ndarray) -> list[np.ndarray]:
        # The compiled step of training: its outputs equal the stored features to the bit, in bfloat16 too.
        outputs = self.prefix.predict_on_batch(images)
        return [np.asarray(output, np.float32) for output in (outputs if isinstance(outputs, list) else [outputs])]


def _tensorflow_step(suffix: keras.Model, place: int, classes: int) -> Step:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def step(intermediate: list[tf.Tensor], target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(intermediate[place])
            logits, pooled = suffix(_unwrap(intermediate), training=False)
            predicted = tf.argmax(logits[:, :classes], axis=1, output_type=tf.int32)
            score = tf.gather(logits, tf.where(target == PREDICTED, predicted, target), batch_dims=1)
        return logits, tape.gradient(score, intermediate[place]), pooled

    return lambda intermediate, target: step([tf.constant(tensor) for tensor in intermediate], tf.constant(target))


def _jax_step(suffix: keras.Model, place: int, classes: int) -> Step:
    import jax

    def step(intermediate: list[np.ndarray], target: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
        trainable = [variable.value for variable in suffix.trainable_variables]
        others = [variable.value for variable in suffix.non_trainable_variables]

        def forward(activations: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = _unwrap([*intermediate[:place], activations, *intermediate[place + 1 :]])
            return tuple(suffix.stateless_call(trainable, others, inputs, training=False)[0])

        logits, pull_back, pooled = jax.vjp(forward, jax.numpy.asarray(intermediate[place]), has_aux=True)
        explained = np.where(target == PREDICTED, np.asarray(logits)[:, :classes].argmax(axis=1), target)
        return logits, pull_back(jax.nn.one_hot(explained, logits.shape[1], dtype=logits.dtype))[0], pooled

    return step


def _unwrap(tensors: list) -> object:
    return tensors[0] if len(tensors) == 1 else tensors
