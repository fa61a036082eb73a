"""Build a run's Keras model from its config, and split it into a frozen prefix and a trained suffix.

`Input → preprocessing → backbone → pool → head → logits → probabilities`, all in one flat graph. A model takes raw RGB
values 0 to 255, so that training and inference cannot differ, and heat maps can use every layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from leukodash.atomic_write import replacing
from leukodash.bounded_read import check_bounded
from leukodash.errors import WeightsError
from leukodash.models.backbones import ALL, BGR, EVERY_BLOCK, HEAD, POOLED, SCALED, SCALING, constructor
from leukodash.models.head import DAMAGE, MOST_BYTES
from leukodash.models.pooling import BLACK_LEVEL, TINY, averaging

if TYPE_CHECKING:  # config is a higher layer
    from leukodash.config.run_config import RunConfig

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build(config: RunConfig, classes: int, weights: Path | None, precision: str = "float32") -> keras.Model:
    """Build the flat model of a run.

    Args:
        config: the run's settings.
        classes: number of classes.
        weights: file of pretrained backbone weights; None for random weights.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` for the backbone's arithmetic. Variables, head and
            outputs are always float32.

    Returns:
        Model from ``cell``, float32 (n, size, size, 3), RGB 0 to 255, to ``probabilities``, float32
        (n, ``config.outputs or classes``). The head lies between the layers ``pool`` and ``logits``.

    Raises:
        WeightsError: the file does not fit the backbone.
    """
    keras.utils.set_random_seed(config.seed)
    cell = keras.Input((config.input_size, config.input_size, 3), name="cell")
    backbone = _backbone(config, _preprocess(cell, config), precision)
    if weights is not None:
        try:
            backbone.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"'{weights.name}' does not hold weights of {config.spec.title} that fit ({_first_line(error)}). "
                "Delete the file, so that it is downloaded again, or replace it by the right one."
            ) from error
    x = _pooled(config, cell, backbone)
    for number, step in enumerate(config.head, start=1):
        if isinstance(step, int):
            x = keras.layers.Dense(step, activation="relu", name=f"head_{number}_dense")(x)
        else:
            x = keras.layers.Dropout(step, seed=config.seed + number, name=f"head_{number}_dropout")(x)
    logits = keras.layers.Dense(config.outputs or classes, name="logits")(x)
    model = keras.Model(cell, keras.layers.Softmax(name="probabilities")(logits), name=config.backbone)
    _mark_trainable(model, config)
    return model


def frozen_layer(config: RunConfig) -> str | None:
    """Return the name of the last layer before the split point; None if everything is trained."""
    if config.train_from == ALL:
        return None
    if config.train_from == HEAD:
        return "pool"
    return config.spec.block(config.train_from).after


def split_model(model: keras.Model, after: str | None) -> tuple[keras.Model | None, keras.Model]:
    """Split a flat model after the layer `after`; both parts share their layers with the whole model.

    The prefix holds `after` and every layer that it depends on. The tensors that cross the split point are all outputs
    of the prefix that the suffix uses: one for most networks, two for NASNet; if every block is pooled, the averages
    of the earlier blocks too.

    Returns:
        (prefix, suffix): images → crossing tensors, and crossing tensors → logits. The prefix is None if `after` is.
    """
    logits = model.get_layer("logits").output
    if after is None:
        return None, keras.Model(model.input, logits, name="suffix")
    last = model.get_layer(after)
    frozen = ancestors(model, [last.output])
    # Averages of earlier maps cross in place of the maps. The last maps are averaged in the suffix: gradients need it.
    means = [operation for operation in model.operations if operation.name.startswith(POOLED)]
    frozen |= {mean for mean in means if _maker(_inputs(mean)[0]) in frozen - {last}}
    rest = [operation for operation in model.operations if operation not in frozen]
    crossing: list[keras.KerasTensor] = []
    for operation in rest:
        for tensor in _inputs(operation):
            if _maker(tensor) in frozen and not any(tensor is other for other in crossing):
                crossing.append(tensor)
    crossing = crossing[0] if len(crossing) == 1 else crossing
    return keras.Model(model.input, crossing, name="prefix"), keras.Model(crossing, logits, name="suffix")


def ancestors(model: keras.Model, tensors: Iterable[keras.KerasTensor]) -> set[keras.Operation]:
    """Return every operation of the graph that the tensors depend on, including those that compute them."""
    found: set[keras.Operation] = set()
    open_ = [_maker(tensor) for tensor in tensors]
    while open_:
        operation = open_.pop()
        if operation not in found:
            found.add(operation)
            open_.extend(_maker(tensor) for tensor in _inputs(operation))
    return found


def trained_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers whose variables training changes, in graph order."""
    return [layer for layer in model.layers if layer.trainable and layer.weights]


def save_trained(model: keras.Model, path: Path) -> None:
    """Write the variables of the trained layers as one HDF5 file (``trained.weights.h5``).

    Each layer is a group, named by its index in the model: names such as ``conv2d_93`` depend on earlier models.
    """
    import h5py

    trained = trained_layers(model)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for place, layer in enumerate(model.layers):
            if layer in trained:
                for number, variable in enumerate(layer.weights):
                    file.create_dataset(f"{place}/{number}", data=keras.ops.convert_to_numpy(variable))
                file[str(place)].attrs["layer"] = layer.name
                if layer.name == SCALED:
                    file[str(place)].attrs["epsilon"] = layer.epsilon


def load_trained(model: keras.Model, path: Path) -> None:
    """Load what `save_trained` wrote into a model of the same config. Raises WeightsError if it does not fit."""
    import h5py

    try:
        check_bounded(path, MOST_BYTES)
        with h5py.File(path, "r") as file:
            for place, group in file.items():
                model.layers[int(place)].set_weights([np.asarray(group[str(n)]) for n in range(len(group))])
    except DAMAGE as error:
        raise WeightsError(
            f"The trained layers in '{path.name}' of '{path.parent.name}' cannot be read ({_first_line(error)}). "
            "The run folder is incomplete: train the run again."
        ) from error


def _preprocess(x: keras.KerasTensor, config: RunConfig) -> keras.KerasTensor:
    mode = config.spec.preprocessing if config.preprocessing == "native" else config.preprocessing
    if mode == "none":
        return x
    if mode in BGR:
        x = keras.ops.flip(x, axis=-1)
    scale, offset = SCALING[mode]
    return keras.layers.Rescaling(scale, offset, name="preprocessing", dtype="float32")(x)


def _backbone(config: RunConfig, x: keras.KerasTensor, precision: str) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        return constructor(config.spec)(include_top=False, weights=None, input_tensor=x)
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable("leukodash")
class CellMask(keras.layers.Layer):
    """1 for pixels that are not black: images (n, h, w, 3), RGB 0 to 255, → (n, h, w, 1); see `pooling`."""

    def call(self, images: Any) -> Any:  # noqa: D102
        mask = keras.ops.cast(keras.ops.max(images, axis=3, keepdims=True) > BLACK_LEVEL, "float32")
        nothing = keras.ops.sum(mask, axis=(1, 2), keepdims=True) == 0
        return mask + keras.ops.cast(nothing, "float32")


@keras.saving.register_keras_serializable("leukodash")
class CellStatistics(keras.layers.Layer):
    """Mean and standard deviation over the cell: maps (n, h, w, c) and a mask → (n, 2c); see `pooling`."""

    def call(self, inputs: Any) -> Any:  # noqa: D102
        maps, mask = inputs
        rows, columns = (averaging(mask.shape[axis], maps.shape[axis]) for axis in (1, 2))
        weight = keras.ops.einsum("ih,nhwk,jw->nijk", rows, mask, columns)
        weight = weight / keras.ops.sum(weight, axis=(1, 2), keepdims=True)
        mean = keras.ops.sum(maps * weight, axis=(1, 2), keepdims=True)
        variance = keras.ops.sum(keras.ops.square(maps - mean) * weight, axis=(1, 2))
        return keras.ops.concatenate([mean[:, 0, 0], keras.ops.sqrt(variance + TINY)], axis=1)


def _pooled(config: RunConfig, cell: keras.KerasTensor, backbone: keras.Model) -> keras.KerasTensor:
    if config.pooling not in EVERY_BLOCK:
        pools = {
            "average": keras.layers.GlobalAveragePooling2D,
            "max": keras.layers.GlobalMaxPooling2D,
            "flatten": keras.layers.Flatten,
        }
        x = pools[config.pooling](name="pool", dtype="float32")(backbone.output)
    else:
        ends = [*(backbone.get_layer(block.after).output for block in config.spec.blocks), backbone.output]
        names = [f"{POOLED}{number}" for number in range(1, len(ends) + 1)]
        if config.pooling == "cell":
            mask = CellMask(name=f"{POOLED}mask", dtype="float32")(cell)
            parts = [
                CellStatistics(name=name, dtype="float32")([end, mask]) for name, end in zip(names, ends, strict=True)
            ]
        else:
            parts = [
                keras.layers.GlobalAveragePooling2D(name=name, dtype="float32")(end)
                for name, end in zip(names, ends, strict=True)
            ]
        x = keras.layers.Concatenate(name="pool", dtype="float32")(parts)
    if config.pooling not in EVERY_BLOCK and not config.solved:
        return x
    # Early maps have smaller values than late ones. A solved head divides by the exact deviations, however small.
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-6 if config.solved else 1e-3, center=False, scale=False, name=SCALED, dtype="float32"
    )(x)


def _mark_trainable(model: keras.Model, config: RunConfig) -> None:
    after = frozen_layer(config)
    frozen = ancestors(model, [model.get_layer(after).output]) if after else set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != SCALED:
            # a frozen BatchNormalization layer runs in inference mode, with ImageNet's statistics
            layer.trainable = config.batchnorm == "everywhere" or (
                layer not in frozen and config.batchnorm == "trained"
            )
            if config.batchnorm_momentum is not None:
                layer.momentum = config.batchnorm_momentum
        else:
            layer.trainable = layer not in frozen


def _inputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    return list(operation._inbound_nodes[0].input_tensors) if operation._inbound_nodes else []


def _maker(tensor: keras.KerasTensor) -> keras.Operation:
    return tensor._keras_history.operation


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
