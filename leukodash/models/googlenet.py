"""GoogLeNet as it won ImageNet in 2014, with local response normalization; not in `keras.applications`.

Szegedy et al., 2014: Going deeper with convolutions, table 1 (https://arxiv.org/abs/1409.4842), in the variant
whose weights the Berkeley Vision and Learning Center (BVLC) published. Layers have Caffe's names, with ``_`` for ``/``.
"""

from pathlib import Path

import keras
from keras import layers, ops

# Output channels: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@keras.saving.register_keras_serializable(package="leukodash")
class LocalResponseNormalization(layers.Layer):
    """Divide each value by a power of the sum of squares over neighboring channels.

    y = x / (bias + alpha * sum of x² over the channels within `radius`) ** 0.75. Krizhevsky et al., 2012, section
    3.3. Alpha in Caffe and ONNX is this one times the number of channels in the window.

    Args:
        radius: channels on either side in the window; fewer at the first and last channels.
        alpha: weight of one channel's square.
        bias: added before the power.

    Input and output: float tensor of shape (N, H, W, C). It computes in float32 under every precision policy, since
    1 + 0.003 is 1 in bfloat16.
    """

    def __init__(self, radius: int = 2, alpha: float = 2e-5, bias: float = 1.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.radius, self.alpha, self.bias = radius, alpha, bias

    def call(self, inputs: object) -> object:
        """Normalize a batch of feature maps of shape (N, H, W, C)."""
        x = ops.cast(inputs, "float32")
        channels = x.shape[-1]
        padded = ops.pad(ops.square(x), [(0, 0), (0, 0), (0, 0), (self.radius, self.radius)])
        energy = sum(padded[..., start : start + channels] for start in range(2 * self.radius + 1))
        root = ops.rsqrt(self.bias + self.alpha * energy)
        # s ** -0.75 as two square roots: less than half the time of ops.power on a CPU
        return ops.cast(x * root * ops.sqrt(root), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Return the arguments for `from_config`."""
        return {**super().get_config(), "radius": self.radius, "alpha": self.alpha, "bias": self.bias}


def _convolution(x: object, filters: int, size: int, name: str) -> object:
    return layers.Conv2D(filters, size, padding="same", activation="relu", name=name)(x)


def _inception(x: object, module: str) -> object:
    one, three_reduce, three, five_reduce, five, projection = INCEPTION[module]
    name = f"inception_{module}_"
    branches = [
        _convolution(x, one, 1, name + "1x1"),
        _convolution(_convolution(x, three_reduce, 1, name + "3x3_reduce"), three, 3, name + "3x3"),
        _convolution(_convolution(x, five_reduce, 1, name + "5x5_reduce"), five, 5, name + "5x5"),
        _convolution(
            layers.MaxPooling2D(3, 1, padding="same", name=name + "pool")(x), projection, 1, name + "pool_proj"
        ),
    ]
    return layers.Concatenate(name=name + "output")(branches)


def GoogLeNet(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: object | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "googlenet",
) -> keras.Model:
    """Build GoogLeNet without the two auxiliary classifiers, which only help training from scratch.

    Args:
        include_top: whether to include the classifier (average pooling, dropout 0.4, one dense layer).
        weights: None for random weights, or the path of a weight file of the same `include_top`.
        input_tensor: Keras tensor of shape (N, H, W, 3) to build upon: BGR, 0 to 255 minus (104, 117, 123).
        input_shape: (H, W, 3) if there is no `input_tensor`; by default (224, 224, 3) with the classifier and any
            size without. At least 32 pixels.
        pooling: without the classifier, None for feature maps (N, H/32, W/32, 1024), ``"avg"`` or ``"max"`` for
            features (N, 1024).
        classes: number of classes of the classifier.
        classifier_activation: activation of the classifier; None for logits.
        name: name of the model.

    Returns:
        A functional model, channels last: 6,998,552 parameters with its 1000-way classifier, 5,973,552 without.
    """
    if input_tensor is None:
        input_tensor = keras.Input(input_shape or ((224, 224, 3) if include_top else (None, None, 3)))

    x = layers.ZeroPadding2D(3, name="conv1_pad")(input_tensor)
    x = layers.Conv2D(64, 7, 2, activation="relu", name="conv1_7x7_s2")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1_3x3_s2")(x)
    x = LocalResponseNormalization(name="pool1_norm1")(x)
    x = _convolution(x, 64, 1, "conv2_3x3_reduce")
    x = _convolution(x, 192, 3, "conv2_3x3")
    x = LocalResponseNormalization(name="conv2_norm2")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool2_3x3_s2")(x)
    for module in INCEPTION:
        x = _inception(x, module)
        if module in ("3b", "4e"):
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"pool{module[0]}_3x3_s2")(x)

    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool5_7x7_s1")(x)
        x = layers.Dropout(0.4, name="pool5_drop_7x7_s1")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="loss3_classifier")(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)

    (inputs,) = keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model
