"""What class activation maps are made of: a layer's feature maps, and how a class would rise with them.

The flat model is cut behind one layer. What comes before runs forward once, for class and map together; only what
comes after runs backward. Gradients are those of the logit: behind the softmax they vanish for cells that the network
is sure about. Keras is imported when a network is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leukodash.errors import RunError

if TYPE_CHECKING:
    import keras

PREDICTED = -1  # as a target: whichever class the network finds the likeliest

Step = Callable[[list[np.ndarray], np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


class Evidence(NamedTuple):
    """What one pass forward and backward says of n images; all float32, whatever the network's precision.

    Attributes:
        logits: (n, units).
        activations: (n, h, w, channels), the layer's feature maps.
        gradients: (n, h, w, channels), of the target's logit with respect to the activations.
        pooled: (n, features), output of the layer ``pool``.
    """

    logits: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    pooled: np.ndarray


class GradientModel:
    """A flat model in two parts, cut behind one layer. Raises RunError for a layer that has no feature maps.

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
        self.prefix, _ = build.split_model(model, layer)
        answers = [model.get_layer(name).output for name in ("logits", "pool")]
        self.suffix = keras.Model(self.prefix.outputs, answers, name="suffix")
        # On a machine whose GPU is hidden Keras would compile with XLA for the CPU, which takes seconds.
        for part in (self.prefix, self.suffix):
            part.jit_compile = keras.backend.backend() == "jax"
        output = model.get_layer(layer).output
        self._place = next(number for number, tensor in enumerate(self.prefix.outputs) if tensor is output)
        step = {"tensorflow": _tensorflow_step, "jax": _jax_step}[keras.backend.backend()]
        self._step = step(self.suffix, self._place, classes)

    def logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run forward only.

        Args:
            images: float32 (n, size, size, 3), RGB 0 to 255.

        Returns:
            logits (n, units) and pooled (n, features), float32, as in `Evidence`.
        """
        logits, pooled = self.suffix.predict_on_batch(_one_or_all(self._crossing(images)))
        return np.asarray(logits), np.asarray(pooled)

    def gradients(self, images: np.ndarray, target: np.ndarray) -> Evidence:
        """Run forward through all of the network, and backward to the cut.

        Args:
            images: float32 (n, size, size, 3), RGB 0 to 255.
            target: int (n,), the class whose logit is derived; `PREDICTED` for each image's own.
        """
        crossing = self._crossing(images)
        logits, gradients, pooled = map(np.asarray, self._step(crossing, np.asarray(target, np.int32)))
        return Evidence(logits, crossing[self._place], gradients, pooled)

    def _crossing(self, images: np.ndarray) -> list[np.ndarray]:
        # Keras' compiled step, as in training: it gives the stored features to the bit, in bfloat16 too.
        outputs = self.prefix.predict_on_batch(images)
        return [np.asarray(output, np.float32) for output in (outputs if isinstance(outputs, list) else [outputs])]


def _tensorflow_step(suffix: keras.Model, place: int, classes: int) -> Step:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def step(crossing: list[tf.Tensor], target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(crossing[place])
            logits, pooled = suffix(_one_or_all(crossing), training=False)
            predicted = tf.argmax(logits[:, :classes], axis=1, output_type=tf.int32)
            score = tf.gather(logits, tf.where(target == PREDICTED, predicted, target), batch_dims=1)
        return logits, tape.gradient(score, crossing[place]), pooled

    return lambda crossing, target: step([tf.constant(tensor) for tensor in crossing], tf.constant(target))


def _jax_step(suffix: keras.Model, place: int, classes: int) -> Step:
    import jax

    def step(crossing: list[np.ndarray], target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        trainable = [variable.value for variable in suffix.trainable_variables]
        others = [variable.value for variable in suffix.non_trainable_variables]

        def forward(activations: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = _one_or_all([*crossing[:place], activations, *crossing[place + 1 :]])
            return tuple(suffix.stateless_call(trainable, others, inputs, training=False)[0])

        logits, pull_back, pooled = jax.vjp(forward, jax.numpy.asarray(crossing[place]), has_aux=True)
        chosen = np.where(target == PREDICTED, np.asarray(logits)[:, :classes].argmax(axis=1), target)
        return logits, pull_back(jax.nn.one_hot(chosen, logits.shape[1], dtype=logits.dtype))[0], pooled

    return step


def _one_or_all(tensors: list) -> object:
    return tensors[0] if len(tensors) == 1 else tensors
