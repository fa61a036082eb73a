"""Which arithmetic a run uses: fewer digits where the machine has units for them and the network stays true."""

from collections.abc import Callable

import numpy as np

from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import Backbone

FIDELITY = 0.999  # lowest cosine similarity between float32 and bfloat16 features that counts as the same


def choose_precision(asked: str, row: Backbone, device: str, measure: Callable[[], float]) -> str:
    """Decide a run's precision.

    Args:
        asked: the setting; anything but ``"auto"`` is taken as it is.
        row: the backbone. Its ``bfloat16`` says whether its features survive; None asks `measure`.
        device: ``"gpu-…"`` or ``"cpu-…"``.
        measure: returns the lowest cosine similarity of features in float32 and bfloat16 over a few images.

    Returns:
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. float16 has three more binary digits than bfloat16, so a GPU,
        which is as fast in either, uses it; its loss is scaled by Keras.
    """
    if asked != "auto":
        return asked
    if device.startswith("gpu"):
        return "float16"
    if not cpu_has_bfloat16() or row.bfloat16 is False:
        return "float32"
    return "bfloat16" if row.bfloat16 or measure() >= FIDELITY else "float32"


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the lowest cosine similarity between the rows of two arrays of shape (n, features)."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(norms, 1e-12)).min())
