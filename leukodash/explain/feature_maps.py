"""Inside a network: feature maps of one cell at three depths, and the table of layers as papers print it."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from leukodash.data.images import square
from leukodash.inference.classifier import Classifier
from leukodash.models.build import POOLED, ancestors

SHOWN = 12  # channels of a depth


@dataclass(frozen=True)
class Depth:
    """What one layer makes of a cell.

    Attributes:
        title: ``"First"``, ``"Middle"`` or ``"Last"``.
        layer: its name in the network.
        maps: float32 (h, w, n), the channels that differ most from place to place, the strongest first.
        channels: their numbers in the layer, int (n,).
        total: how many channels the layer has.
        silent: how many of these give the same everywhere on this cell.
    """

    title: str
    layer: str
    maps: np.ndarray
    channels: np.ndarray
    total: int
    silent: int

    @property
    def words(self) -> str:
        """What a reader without a course in deep learning can see in it."""
        height, width = self.maps.shape[:2]
        size = f"{self.total:,} maps of {width} × {height} places"
        quiet = f" On this cell, {self.silent:,} of them are silent." if self.silent else ""
        return f"{size}. {_SEEN[self.title]}{quiet}"


_SEEN = {
    "First": "Each map is the picture after one small filter: edges in one direction, a color, a grain. The cell can "
    "still be recognized in most of them.",
    "Middle": "Each place now sums up a patch of the picture, and each map answers to a pattern of earlier patterns, "
    "such as clumps or the rim of the nucleus. The outline blurs; few of these patterns have a name.",
    "Last": "Each place has seen most of the picture, so little of the cell's shape is left: a map says whether, and "
    "roughly where, its pattern occurs. The head decides from these alone.",
}


def look_inside(classifier: Classifier, image: np.ndarray, shown: int = SHOWN) -> list[Depth]:
    """Run one image through the network, and keep what its first, middle and last blocks make of it.

    Strong is a channel whose activation differs much from place to place (standard deviation): one that is as high on
    the black around the cell as on the cell says nothing of the cell.

    Args:
        classifier: from `predict.load`.
        image: uint8 (H, W, 3), RGB, of any size.
        shown: channels to keep of each depth.
    """
    model, row = classifier.model, classifier.run.config.spec
    layers = {
        "First": _first_layer(model),
        "Middle": row.blocks[len(row.blocks) // 2].after,
        "Last": row.cam_layer,
    }
    part = keras.Model(model.input, [model.get_layer(name).output for name in layers.values()])
    batch = square(image, classifier.size)[None].astype(np.float32)
    depths = []
    for (title, name), output in zip(layers.items(), part(batch, training=False), strict=True):
        maps = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")))[0]
        spread = maps.std(axis=(0, 1))
        strongest = np.argsort(-spread, kind="stable")[:shown]
        depths.append(Depth(title, name, maps[..., strongest], strongest, len(spread), int((spread == 0).sum())))
    return depths


def layer_table(classifier: Classifier) -> pd.DataFrame:
    """Return every layer, in the order of the graph.

    Returns:
        Columns block (as the backbone's row calls it; "input" before the first one, "head" from the pooling on),
        layer, kind (class), output (such as ``"112 × 112 × 64"``), parameters, trained_parameters, and state
        ("trained", "frozen", or "" for a layer without parameters).
    """
    model, row = classifier.model, classifier.run.config.spec
    names, rows = {}, []
    boundaries = [(block.name, block.after) for block in row.blocks]
    starts = ["input", *(name for name, _ in boundaries)]
    ends = [*(after for _, after in boundaries), "pool"]
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
    """Sum the layers of each block up, as papers do, and those that pool; the layers of the head stay single.

    Args:
        layers: from `layer_table`.

    Returns:
        Its columns but kind; layers, the number of them, instead of layer; and the state "partly" where a block has
        layers of both states.
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


def table_words(classifier: Classifier, layers: pd.DataFrame) -> str:
    """Say how large the network is and how much of it was trained."""
    total, trained = int(layers["parameters"].sum()), int(layers["trained_parameters"].sum())
    share = f"{trained / total:.2%}" if trained < total / 100 else f"{trained / total:.0%}"
    return (
        f"{classifier.run.config.spec.title} with its head: {len(layers)} layers, {total:,} parameters. "
        f"Training changed {trained:,} of them ({share}); the other {total - trained:,} stayed."
    )


def _first_layer(model: keras.Model) -> str:
    """Return the first layer behind a nonlinearity: the last one whose maps are made of pixels alone."""
    for layer in model.layers:
        named = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.ReLU) or (named is not None and named is not keras.activations.linear):
            return layer.name
    raise ValueError(f"{model.name} has no nonlinearity")
