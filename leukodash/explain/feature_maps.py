"""Feature maps of one cell at three depths of a network, and the table of its layers as papers print it."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from leukodash.data.images import square
from leukodash.inference.classifier import MODEL_LOCK, Classifier
from leukodash.models.backbones import POOLED
from leukodash.models.build import ancestors

CHANNELS_SHOWN = 12  # per depth


@dataclass(frozen=True)
class LayerMaps:
    """Feature maps of one cell in one layer.

    Attributes:
        title: ``"First"``, ``"Middle"`` or ``"Last"``.
        layer: name of the layer.
        maps: float32 (h, w, n), the channels with the largest standard deviation, largest first.
        channels: their indices in the layer, int (n,).
        total: number of channels of the layer.
        silent: how many of them are constant on this cell.
    """

    title: str
    layer: str
    maps: np.ndarray
    channels: np.ndarray
    total: int
    silent: int

    @property
    def words(self) -> str:
        """Explanation for readers without a course in deep learning."""
        height, width = self.maps.shape[:2]
        size = f"{self.total:,} maps of {width} × {height} positions"
        quiet = f" {self.silent:,} of them are constant on this cell." if self.silent else ""
        return f"{size}. {_EXPLANATIONS[self.title]}{quiet}"


_EXPLANATIONS = {
    "First": "Each map is the image after one small filter: edges in one direction, a color, a texture. Most of them "
    "still show the cell.",
    "Middle": "Each position now summarizes a patch of the image, and each map responds to a combination of earlier "
    "patterns, such as clumps or the rim of the nucleus. The outline blurs; few of these patterns have a name.",
    "Last": "Each position has seen most of the image, so little of the cell's shape is left: a map says whether, and "
    "roughly where, its pattern occurs. The head decides from these maps alone.",
}


def feature_maps(classifier: Classifier, image: np.ndarray, shown: int = CHANNELS_SHOWN) -> list[LayerMaps]:
    """Return the feature maps of one image in the first, middle and last block of the network.

    Channels are ranked by the standard deviation of their activation over positions: a channel that is as high on the
    black background as on the cell says nothing about the cell. The first `shown` channels are kept at each depth.

    Args:
        image: uint8 (H, W, 3), RGB, of any size.
    """
    model, spec = classifier.model, classifier.run.config.spec
    middle = spec.blocks[len(spec.blocks) // 2].after
    layers = {"First": _first_layer(model), "Middle": middle, "Last": spec.cam_layer}
    batch = square(image, classifier.size)[None].astype(np.float32)
    with MODEL_LOCK:
        part = keras.Model(model.input, [model.get_layer(name).output for name in layers.values()])
        outputs = part(batch, training=False)
    depths = []
    for (title, name), output in zip(layers.items(), outputs, strict=True):
        maps = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")))[0]
        spread = maps.std(axis=(0, 1))
        strongest = np.argsort(-spread, kind="stable")[:shown]
        depths.append(LayerMaps(title, name, maps[..., strongest], strongest, len(spread), int((spread == 0).sum())))
    return depths


def layer_table(classifier: Classifier) -> pd.DataFrame:
    """Return every layer, in the order of the graph.

    Returns:
        Columns block (named as in the backbone's spec; "input" before the first one, "head" from the pooling on),
        layer, kind (class), output (such as ``"112 × 112 × 64"``), parameters, trained_parameters, and state
        ("trained", "frozen", or "" for a layer without parameters).
    """
    model, blocks = classifier.model, classifier.run.config.spec.blocks
    names: dict[str, str] = {}
    rows = []
    starts, ends = ["input", *(block.name for block in blocks)], [*(block.after for block in blocks), "pool"]
    for block, end in zip(starts, ends, strict=True):
        for operation in ancestors(model, [model.get_layer(end).output]):
            names.setdefault(operation.name, block)
    for layer in model.layers:
        parameters = sum(int(np.prod(weight.shape)) for weight in layer.weights)
        trained = sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)
        pooling = layer.name == "pool" or layer.name.startswith(POOLED)
        rows.append(
            {
                "block": "head" if pooling else names.get(layer.name, "head"),
                "layer": layer.name,
                "kind": type(layer).__name__,
                "output": " × ".join(f"{side:,}" for side in layer.output.shape[1:]),
                "parameters": parameters,
                "trained_parameters": trained,
                "state": "" if not parameters else "trained" if layer.trainable else "frozen",
            }
        )
    return pd.DataFrame(rows)


def block_table(layers: pd.DataFrame) -> pd.DataFrame:
    """Sum up the layers of each block, as papers do, and the pooling layers; layers of the head stay separate.

    Returns:
        The columns of `layer_table` without kind, and with layers (a count) instead of layer. The state is "partly"
        where a block has trained and frozen layers.
    """
    single = layers["layer"].where(~layers["layer"].str.startswith(POOLED), "pool")
    keys = layers["block"].where(layers["block"] != "head", single)
    rows = []
    for name, part in layers.groupby(keys, sort=False):
        states = set(part["state"]) - {""}
        rows.append(
            {
                "block": name,
                "layers": len(part),
                "output": part["output"].iloc[-1],
                "parameters": int(part["parameters"].sum()),
                "trained_parameters": int(part["trained_parameters"].sum()),
                "state": "partly" if len(states) > 1 else next(iter(states), ""),
            }
        )
    return pd.DataFrame(rows)


def parameter_words(classifier: Classifier, layers: pd.DataFrame) -> str:
    """Return a sentence on the size of the network and how much of it was trained."""
    total, trained = int(layers["parameters"].sum()), int(layers["trained_parameters"].sum())
    share = f"{trained / total:.2%}" if trained < total / 100 else f"{trained / total:.0%}"
    return (
        f"{classifier.run.config.spec.title} with its head: {len(layers)} layers, {total:,} parameters. "
        f"Training changed {trained:,} of them ({share}); the other {total - trained:,} are unchanged."
    )


def _first_layer(model: keras.Model) -> str:
    """Return the first layer with a nonlinearity: the last one that is computed from pixels alone."""
    for layer in model.layers:
        named = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.ReLU) or (named is not None and named is not keras.activations.linear):
            return layer.name
    raise ValueError(f"{model.name} has no nonlinearity")
