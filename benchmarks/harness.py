"""What the benchmarks share: the machine in words, cells, runs started by the command line, and the pinned recipe."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs.hardware import cpu_has_bfloat16

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHARED = ROOT.parent / "shared"

# Every setting that a measured time depends on, written out: no preset can change what the figures are about.
# A frozen network, a new output layer, cells as they are.
RECIPE: dict[str, Any] = {
    "input_size": 224, "preprocessing": "native", "pooling": "average", "head": [], "outputs": None,
    "train_from": "head", "batchnorm": "frozen", "batchnorm_momentum": None, "optimizer": "adam",
    "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0,
    "batch_size": 32, "epochs": 100, "early_stopping": 0, "class_weights": False, "label_smoothing": 0.0,
    "flips": "none", "average_views": False, "brightness": 0.0, "stain": 0.0, "rotation": 0.0, "precision": "auto",
    "split": {"kind": "image", "validation": 0.2, "test": 0.2, "seed": 0}, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What every benchmark is given.

    Attributes:
        data: folder of real cells, or None for generated ones.
        quick: whether to measure the part that is measured anew for each release, about a tenth.
        folder: an empty folder for whatever the benchmark needs.
    """

    data: Path | None
    quick: bool
    folder: Path


def machine() -> str:
    """Return words on the machine that a figure was measured on."""
    model = platform.machine()
    with contextlib.suppress(OSError, IndexError):  # Linux
        model = Path("/proc/cpuinfo").read_text().split("model name")[1].splitlines()[0].strip(" \t:")
    return f"{os.cpu_count()} cores of {model} with{'' if cpu_has_bfloat16() else 'out'} bfloat16 units"


def write(name: str, figures: dict) -> None:
    """Write figures, with date and machine, to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    stamped = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), **figures}
    (RESULTS / f"{name}.json").write_text(json.dumps(stamped, indent=1, default=float) + "\n")


def some_cells(options: Options, number: int) -> Path:
    """Copy that many cells of the data set, half of each class; without one, draw them. Returns the folder."""
    if options.data is None:
        return make_demo(options.folder / f"demo-{number}", cells=number)
    dataset, target = load_dataset(options.data), options.folder / f"cells-{number}"
    for file in dataset.cells.groupby("label").sample(number // 2, random_state=0)["file"]:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dataset.root / file, target / file)
    return target


def as_words(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """Return settings as the command line takes them: ``--set KEY=VALUE`` each; what is None is left at its default."""
    words = []
    for name, value in settings.items():
        if isinstance(value, dict):
            words += as_words(value, f"{name}.")
        elif value is not None:
            words += ["--set", f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def train(data: Path, backbone: str, settings: dict[str, Any], cache: Path, checkpoints: Path) -> tuple[float, Path]:
    """Train a run by the command line; returns the seconds of the whole process and the run's folder."""
    command = [
        sys.executable,
        "-m",
        "leukodash",
        "train",
        "--data",
        str(data),
        "--backbone",
        backbone,
        "--preset",
        "quick",
    ]
    environment = os.environ | {"LEUKODASH_CACHE": str(cache), "LEUKODASH_CHECKPOINTS": str(checkpoints)}
    since = time.perf_counter()
    shown = subprocess.run(
        [*command, *as_words(settings)], env=environment, capture_output=True, text=True, check=False
    )
    if shown.returncode:
        raise RuntimeError(shown.stdout + shown.stderr)
    return time.perf_counter() - since, Path(shown.stdout.split()[-1])


def metrics(run: Path) -> dict[str, Any]:
    """Return what a finished run measured of itself."""
    return json.loads((run / "metrics.json").read_bytes())
