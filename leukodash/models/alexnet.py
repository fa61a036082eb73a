"""AlexNet for one GPU with the widths of torchvision (64-192-384-256-256); not in `keras.applications`.

Krizhevsky et al., 2012: ImageNet classification with deep convolutional neural networks; one GPU and no local response
normalization: Krizhevsky, 2014: One weird trick for parallelizing convolutional neural networks
(https://arxiv.org/abs/1404.5997).
"""

from pathlib import Path

import keras
from keras import layers


def AlexNet(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: object | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "alexnet",
) -> keras.Model:
    """Build AlexNet.

    Args:
        include_top: whether to include the classifier (two dense layers of 4096, each after dropout 0.5, and the
            last). It needs an input of 224 pixels, which gives a 6×6 map. torchvision averages other sizes to 6×6
            and flattens channels first, so its dense weights do not fit here.
        weights: None for random weights, or the path of a weight file of the same `include_top`.
        input_tensor: Keras tensor of shape (N, H, W, 3) to build upon: RGB / 255, minus ImageNet's mean, divided
            by its standard deviation.
        input_shape: (H, W, 3) if there is no `input_tensor`; by default (224, 224, 3) with the classifier and any
            size without. At least 63 pixels.
        pooling: without the classifier, None for feature maps (6×6×256 for 224 pixels), ``"avg"`` or ``"max"``
            for features (N, 256).
        classes: number of classes of the classifier.
        classifier_activation: activation of the classifier; None for logits.
        name: name of the model.

    Returns:
        A functional model, channels last: 61,100,840 parameters with its 1000-way classifier, 2,469,696 without.
    """
    if input_tensor is None:
        input_tensor = keras.Input(input_shape or ((224, 224, 3) if include_top else (None, None, 3)))

    x = layers.ZeroPadding2D(2, name="conv1_pad")(input_tensor)
    x = layers.Conv2D(64, 11, 4, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = layers.Conv2D(192, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)

    if include_top:
        x = layers.Flatten(name="flatten")(x)
        for number in (6, 7):
            x = layers.Dropout(0.5, name=f"drop{number}")(x)
            x = layers.Dense(4096, activation="relu", name=f"fc{number}")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="fc8")(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)

    (inputs,) = keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model
