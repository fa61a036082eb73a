"""The forward pass of a frozen backbone without TensorFlow: an ONNX file, run by ONNX Runtime.

A program maps preprocessed images of any size to the feature maps after every block, and to their averages. One file
serves every run on the same pretrained weights. MobileNet's comes with LeukoDash; training writes the others into the
cache folder. Pages classify with it; it takes a tenth of TensorFlow's memory and starts at once. Features for training
come from TensorFlow, which is 0.9 to 1.7 times as fast on a batch (`benchmarks/features.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from leukodash import settings
from leukodash.atomic_write import replacing
from leukodash.cache_folder import make_room, mark_used
from leukodash.models.backbones import BGR, EVERY_BLOCK, POOLED, SCALING, Backbone
from leukodash.models.pooling import cell_mask, pool

if TYPE_CHECKING:
    import keras

    from leukodash.config.run_config import RunConfig

# (images float32 (n, size, size, 3), RGB 0 to 255; whether maps are wanted) → pooled features (n, d), and the maps
# (n, h, w, channels) that they are averages of, in the same order.
Forward = Callable[[np.ndarray, bool], tuple[np.ndarray, list[np.ndarray]]]

VERSION = 1  # of the programs in the cache


class Program:
    """A backbone's forward pass. Sessions and runs share one: see `load_program`."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Memory of a call is given back after it, and waiting threads do not keep a core busy.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in self._session.get_outputs()]
        self.ends = sum(name.startswith("mean_") for name in names)
        self._input = self._session.get_inputs()[0].name

    def run(
        self, images: np.ndarray, ends: Sequence[int], maps: bool = True
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run preprocessed images, one by one: a batch is not faster, and takes more memory.

        Args:
            images: float32 (n, h, w, 3), from `preprocess`.
            ends: blocks whose outputs are wanted: 1 to `ends`, in the order of the network.
            maps: whether the feature maps are wanted, and not only their averages.

        Returns:
            (averages, float32 (n, channels) for each end; maps, float32 (n, h, w, channels) for each end).
        """
        names = [f"mean_{end}" for end in ends] + ([f"maps_{end}" for end in ends] if maps else [])
        rows = [self._session.run(names, {self._input: image[None]}) for image in images]
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        return columns[: len(ends)], columns[len(ends) :]


_programs: WeakValueDictionary[Path, Program] = WeakValueDictionary()
_loading = threading.Lock()


def load_program(path: Path) -> Program:
    """Return a program, loaded once for the whole process, for as long as a run uses it."""
    with _loading:
        program = _programs.get(path)
        if program is None:
            program = _programs[path] = Program(path)
        return program


def pooled_features(program: Program, config: RunConfig) -> Forward:
    """Return the frozen part of a run with a pooled head, as its program computes it."""
    mode = config.spec.preprocessing if config.preprocessing == "native" else config.preprocessing
    ends = range(1, program.ends + 1) if config.pooling in EVERY_BLOCK else [program.ends]

    def forward(images: np.ndarray, wanted: bool) -> tuple[np.ndarray, list[np.ndarray]]:
        over_cell = config.pooling == "cell"
        pooled, maps = program.run(preprocess(images, mode), ends, wanted or over_cell)
        if over_cell:
            mask = cell_mask(images)
            pooled = [pool(block, mask).pooled for block in maps]
        return np.concatenate(pooled, axis=1), maps

    return forward


def preprocess(images: np.ndarray, mode: str) -> np.ndarray:
    """Scale images as the network expects them: float32 (n, h, w, 3), RGB 0 to 255; `mode` is a key of `SCALING`."""
    if mode == "none":
        return np.asarray(images, np.float32)
    scale, offset = (np.asarray(number, np.float32) for number in SCALING[mode])
    images = images[..., ::-1] if mode in BGR else images
    return np.asarray(images, np.float32) * scale + offset


def find_program(backbone: Backbone, weights_sha256: str | None) -> Path | None:
    """Return the program of a backbone with these pretrained weights, from the cache or shipped; None without one.

    Training writes one with the exact weights; the shipped one changes probabilities by less than 0.0003.
    """
    if not weights_sha256:
        return None
    path = _cached(backbone, weights_sha256)
    if path.is_file():
        mark_used(path)
        return path
    weights = backbone.weights
    return settings.asset(weights.shipped) if weights.shipped and weights_sha256 == weights.shipped_sha256 else None


def write_program(backbone: Backbone, model: keras.Model, weights_sha256: str) -> Path | None:
    """Write the program of a run's network into the cache folder, for all runs on the same pretrained weights.

    Returns None if the network has a layer that `onnx_graph` does not know: then Keras classifies.

    Args:
        backbone: its row.
        model: from `models.build.build`, with pretrained weights that no training has changed.
        weights_sha256: identity of these weights.
    """
    path = _cached(backbone, weights_sha256)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_room(path, 4 * backbone.parameters, f"The program of {backbone.title}")
        try:
            with replacing(path) as temporary:
                write_backbone(backbone, model, temporary)
        except ValueError:
            return None
    return path


def write_backbone(backbone: Backbone, model: keras.Model, path: Path, short: bool = False) -> None:
    """Write the part of a flat model between preprocessing and pooling as a program; see `onnx_graph.write_onnx`."""
    from leukodash.models.onnx_graph import write_onnx

    names = {layer.name for layer in model.layers}
    image = model.get_layer("preprocessing" if "preprocessing" in names else "cell").output
    ends = block_outputs(backbone, model)
    maps, averages = ({f"{kind}_{number}": end for number, end in enumerate(ends, 1)} for kind in ("maps", "mean"))
    write_onnx(path, image, maps, averages, short=short)


def block_outputs(backbone: Backbone, model: keras.Model) -> list[keras.KerasTensor]:
    """Return the feature maps after every block of a flat model, the last of which the pooling layer averages."""
    names = {layer.name for layer in model.layers}
    last = f"{POOLED}{len(backbone.blocks) + 1}"
    pooled = model.get_layer(last if last in names else "pool").input
    maps = pooled[0] if isinstance(pooled, list) else pooled  # a mask is pooled with them
    return [*(model.get_layer(block.after).output for block in backbone.blocks), maps]


def _cached(backbone: Backbone, weights_sha256: str) -> Path:
    return settings.cache() / "programs" / f"{backbone.name}-{weights_sha256[:16]}-{VERSION}.onnx"
