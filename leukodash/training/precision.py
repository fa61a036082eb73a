"""The choice of floating-point precision: 16 bits if the hardware supports them and the features stay accurate."""

from collections.abc import Callable

import numpy as np

from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import Backbone

FIDELITY = 0.999  # bfloat16 features need at least this cosine similarity with float32 features


def choose_precision(requested: str, spec: Backbone, device: str, measure: Callable[[], float]) -> str:
    """Return the precision of a run.

    Args:
        requested: the setting; any value but ``"auto"`` is returned unchanged.
        spec: the backbone. Its ``bfloat16`` says whether its features stay accurate; None calls `measure`.
        device: ``"gpu-…"`` or ``"cpu-…"``.
        measure: returns the lowest cosine similarity of features in float32 and bfloat16 over a few images.

    Returns:
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. GPUs use float16: it is as fast as bfloat16 and has three more
        binary digits. Keras scales its loss.
    """
    if requested != "auto":
        return requested
    if device.startswith("gpu"):
        return "float16"
    if not cpu_has_bfloat16() or spec.bfloat16 is False:
        return "float32"
    return "bfloat16" if spec.bfloat16 or measure() >= FIDELITY else "float32"


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the lowest cosine similarity between the rows of two arrays of shape (n, features)."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(norms, 1e-12)).min())
