"""How feature maps become the vector that a head sees, in NumPy, and what each position of the maps contributes to it.

C-NMC's cells are cut out and stand on black, which fills five sixths of a picture: a mean over the whole picture is
mostly one over the black. Pooling over the cell takes the mean and the standard deviation at the positions that show
the cell. Of a picture without black, every position counts.

The Keras layers are in `models.build`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

BLACK_LEVEL = 5  # gray level, 0..255; the background of segmented cells does not exceed it
TINY = 1e-6  # added to variances: the derivative of a square root is infinite at 0


@lru_cache(maxsize=64)
def averaging(pixels: int, positions: int) -> np.ndarray:
    """Return the matrix that averages a line of pixels to fewer positions: float32 (positions, pixels), rows sum to 1.

    A position averages the pixels that it covers, those at its ends by the share that it covers.
    """
    ends = np.linspace(0, pixels, positions + 1)
    first = np.arange(pixels)
    covered = np.minimum(ends[1:, None], first + 1) - np.maximum(ends[:-1, None], first)
    return (np.maximum(covered, 0) * positions / pixels).astype(np.float32)


def cell_mask(images: np.ndarray) -> np.ndarray:
    """Return 1 for pixels that are not black, float32 (n, h, w); of images (n, h, w, 3), RGB 0 to 255.

    An image without any such pixel is taken whole.
    """
    mask = (images.max(axis=3) > BLACK_LEVEL).astype(np.float32)
    return mask + (mask.sum(axis=(1, 2), keepdims=True) == 0)


class Pooling(Protocol):
    """One block's maps, (n, h, w, c), and how they are pooled."""

    @property
    def pooled(self) -> np.ndarray:
        """What the head sees of them, (n, d)."""

    def evidence(self, slopes: np.ndarray) -> np.ndarray:
        """Return what each position adds to slopes · pooled, (n, h, w); the slopes are (n, d)."""

    def gradients(self, slopes: np.ndarray) -> np.ndarray:
        """Return the derivatives of slopes · pooled by the maps, float32 (n, h, w, c)."""


@dataclass(frozen=True)
class MeanPooling:
    """The mean over all positions; `maps` are float32 (n, h, w, c).

    Large parts cancel where the black around a cell counts as well, so that sums are in double precision.
    """

    maps: np.ndarray

    @property
    def pooled(self) -> np.ndarray:  # noqa: D102
        return self.maps.mean(axis=(1, 2), dtype=np.float64)

    def evidence(self, slopes: np.ndarray) -> np.ndarray:  # noqa: D102
        return np.einsum("nhwc,nc->nhw", self.maps, slopes.astype(np.float64)) / self.maps[0, ..., 0].size

    def gradients(self, slopes: np.ndarray) -> np.ndarray:  # noqa: D102
        each = slopes[:, None, None] / np.float32(self.maps[0, ..., 0].size)
        return np.broadcast_to(each, self.maps.shape)


@dataclass(frozen=True)
class CellPooling:
    """The mean and standard deviation over the cell of one block's maps.

    Attributes:
        maps: float32 (n, h, w, c).
        weight: float32 (n, h, w), the share of a position that shows the cell, relative to all; sums to 1.
        mean, deviation: float32 (n, c).
    """

    maps: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def pooled(self) -> np.ndarray:
        """Means, then standard deviations, (n, 2c)."""
        return np.concatenate([self.mean, self.deviation], axis=1)

    def evidence(self, slopes: np.ndarray) -> np.ndarray:
        """Return what each position adds, as in `Pooling`.

        A standard deviation s is the sum over positions of weight · ((x − mean)² + `TINY`) / s, so that the parts add
        up exactly.
        """
        of_mean, of_deviation = np.split(slopes, 2, axis=1)
        centered = self.maps - self.mean[:, None, None]
        parts = np.einsum("nhwc,nc->nhw", self.maps, of_mean)
        parts += np.einsum("nhwc,nc->nhw", centered**2 + TINY, of_deviation / self.deviation)
        return parts * self.weight

    def gradients(self, slopes: np.ndarray) -> np.ndarray:  # noqa: D102
        of_mean, of_deviation = (part[:, None, None] for part in np.split(slopes, 2, axis=1))
        centered = (self.maps - self.mean[:, None, None]) / self.deviation[:, None, None]
        return (of_mean + of_deviation * centered) * self.weight[..., None]


def pool(maps: np.ndarray, mask: np.ndarray | None) -> Pooling:
    """Pool maps, float32 (n, h, w, c), over the cell that a mask from `cell_mask` shows, or over all positions."""
    if mask is None:
        return MeanPooling(maps)
    rows, columns = (averaging(mask.shape[axis], maps.shape[axis]) for axis in (1, 2))
    weight = rows @ mask @ columns.T
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    mean = np.einsum("nhwc,nhw->nc", maps, weight)
    variance = np.einsum("nhwc,nhw->nc", (maps - mean[:, None, None]) ** 2, weight)
    return CellPooling(maps, weight, mean, np.sqrt(variance + np.float32(TINY)))
