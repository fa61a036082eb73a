"""The versions and the hardware that a run is trained with, for its ``model.json``."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

import leukodash
from leukodash.jobs.hardware import gpu_words

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "pandas", "scikit-learn")


def environment(device: str) -> dict[str, Any]:
    """Return what a training depends on besides its settings: versions, commit, operating system and hardware.

    Args:
        device: ``"gpu-<number>"`` or ``"cpu-<number>"``.
    """
    kind, _, number = device.partition("-")
    return {
        "leukodash": leukodash.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "backend": keras.backend.backend(),
        "os": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": gpu_words(f"GPU {number}").partition(", ")[0] or "unknown" if kind == "gpu" else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout, with ``-dirty`` where files differ from it; None outside a checkout."""
    root = Path(leukodash.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
