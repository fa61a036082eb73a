"""Export formats: how each file is written, and how it is run. Imports TensorFlow only when needed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

OUTPUT = "probabilities"
METADATA = "leukodash.json"  # in .keras and .tflite, which unzip opens; in ONNX the same fields are metadata_props
NOTICE = "For teaching and research. Not a medical device, not for diagnosis."


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        title: display name.
        suffix: file extension.
        one_line: what can run the file.
        write: (model, path, metadata) → None.
        standard_layers: whether its readers know Keras' own layers alone.
        outputs: (path, images float32 (n, size, size, 3)) → probabilities (n, K), by running the file itself.
    """

    title: str
    suffix: str
    one_line: str
    write: Callable[[keras.Model, Path, dict[str, Any]], None]
    outputs: Callable[[Path, np.ndarray], np.ndarray]
    standard_layers: bool = True


def _write_keras(model: keras.Model, path: Path, fields: dict[str, Any]) -> None:
    model.save(path)
    _embed_metadata(path, fields)


def _write_onnx(model: keras.Model, path: Path, fields: dict[str, Any]) -> None:
    from leukodash.models.onnx_graph import write_onnx

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    write_onnx(path, model.inputs[0], {OUTPUT: model.outputs[0]}, metadata=texts, description=NOTICE)


def _write_litert(model: keras.Model, path: Path, fields: dict[str, Any]) -> None:
    # Built-in operations only: TensorFlow operations would need more than the interpreter.
    model.export(path, format="litert", verbose=False, target_spec={"supported_ops": ["TFLITE_BUILTINS"]})
    _embed_metadata(path, fields)


def _embed_metadata(path: Path, fields: dict[str, Any]) -> None:
    """Add the metadata to the file: a .keras file is a ZIP, and LiteRT files store metadata in a ZIP at their end."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, json.dumps(fields, indent=1, ensure_ascii=False))


def _keras_outputs(path: Path, images: np.ndarray) -> np.ndarray:
    import keras

    return np.asarray(keras.saving.load_model(path, compile=False).predict_on_batch(images), np.float64)


def _onnx_outputs(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {session.get_inputs()[0].name: images})[0], np.float64)


def _litert_outputs(path: Path, images: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output["index"]))
    return np.concatenate(outputs).astype(np.float64)


FORMATS = {
    "keras": Format(
        "Keras",
        ".keras",
        "Python with Keras 3: to continue training, or to inspect the network",
        _write_keras,
        _keras_outputs,
    ),
    "onnx": Format(
        "ONNX",
        ".onnx",
        "ONNX Runtime in Python, C++, C#, Java or a browser",
        _write_onnx,
        _onnx_outputs,
        standard_layers=False,
    ),
    "litert": Format(
        "LiteRT", ".tflite", "phones and small computers (formerly TensorFlow Lite)", _write_litert, _litert_outputs
    ),
}
