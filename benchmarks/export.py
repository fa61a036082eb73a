"""Exports of all backbones: how true, how large, how long, how much memory.

Each backbone gets its pretrained weights and a head that learnt the labels of these cells (logistic regression); each
file is made by a process of its own, as the app does. ONNX Runtime and the LiteRT interpreter, which the app does not
use, then answer for real cells (or generated ones), and are compared with the app's classifier.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from benchmarks.harness import Options, some_cells
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import load_dataset
from leukodash.data.images import read_image, square
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import Run, create_run

CELLS = 50
FORMATS = ("keras", "onnx", "litert")
CHILD = """
import sys
from pathlib import Path
from leukodash.export.model_export import export
from leukodash.runs.run_folder import Run
export(Run(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))
"""


def with_trained_head(backbone: str, cells: np.ndarray, blasts: np.ndarray, data: Path) -> Run:
    """Make a run of pretrained weights and a head that tells these cells apart.

    Args:
        backbone: its key.
        cells: uint8 (n, size, size, 3), RGB.
        blasts: bool (n,), which of them are blasts.
        data: the data set's folder.
    """
    import keras

    from leukodash.models.build import build, save_trained
    from leukodash.models.weights import find_weights, identity

    weights = find_weights(BACKBONES[backbone])
    config = RunConfig(data=str(data), backbone=backbone, input_size=cells.shape[1], weights="imagenet")
    model = build(config.changed(head=()), 2, weights)
    pooled = keras.Model(model.input, model.get_layer("pool").output).predict(cells.astype(np.float32), 8, verbose=0)
    spread = pooled.std(axis=0) + 1e-6
    learnt = LogisticRegression(C=0.01).fit(pooled / spread, blasts)
    kernel, bias = learnt.coef_[0] / spread, learnt.intercept_[0]
    model.get_layer("logits").set_weights([np.stack([kernel, np.zeros_like(kernel)], axis=1), np.array([bias, 0.0])])
    run = create_run(config.changed(head=()))
    save_trained(model, run.path / "trained.weights.h5")
    made = {"classes": ["all", "hem"], "positive": "all", "random_start": False, "precision": "float32"}
    made |= {"weights_file": weights.name, "weights_sha256": identity(weights), "parameters": model.count_params()}
    run.write("model.json", made)
    run.write("metrics.json", {"n": 0})
    return run


def outside(path: Path, cells: np.ndarray) -> np.ndarray:
    """Answer with a program that LeukoDash does not use. Cells float32 (n, size, size, 3) → float64 (n, 2)."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        return np.concatenate([session.run(["probabilities"], {"cell": cell[None]})[0] for cell in cells])
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for cell in cells:
        interpreter.set_tensor(taken["index"], cell[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(given["index"]))
    return np.concatenate(answers)


def exported(backbone: str, files: list[Path], blasts: np.ndarray, data: Path, folder: Path) -> pd.DataFrame:
    """Export one backbone in every format; returns a row a format."""
    from leukodash.inference.classifier import load

    size = BACKBONES[backbone].input_size
    cells = np.stack([square(read_image(path), size) for path in files])
    run = with_trained_head(backbone, cells, blasts, data)
    app = load(run).predict(cells)
    rows = []
    for format in FORMATS:
        since = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(run.path), format, str(folder)])
        _, status, used = os.wait4(child.pid, 0)
        seconds, peak = time.perf_counter() - since, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        (path,) = folder.glob(f"{run.id}.*") if status == 0 else [None]
        row = {"backbone": backbone, "format": format, "seconds": seconds, "peak MB": peak / 1e6}
        if path:
            row["MB"] = path.stat().st_size / 1e6
            if format != "keras":
                row["difference"] = np.abs(outside(path, cells.astype(np.float32)) - app).max()
            path.unlink()
        rows.append(row)
    return pd.DataFrame(rows).assign(lowest=app[:, 0].min(), highest=app[:, 0].max())


def measure(options: Options) -> dict:
    """Export every backbone; returns a row a backbone and format."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "LEUKODASH_CHECKPOINTS": str(options.folder / "checkpoints")}
    data = some_cells(options, CELLS)
    table, parts = load_dataset(data).cells, []
    files, blasts = [data / file for file in table["file"]], (table["label"] == "all").to_numpy()
    for backbone in BACKBONES:
        parts.append(exported(backbone, files, blasts, data, options.folder))
        print(parts[-1].to_string(index=False, float_format=lambda value: f"{value:.3g}"), flush=True)
    return {"cells": CELLS, "rows": pd.concat(parts).to_dict("records")}
