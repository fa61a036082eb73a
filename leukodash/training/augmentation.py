"""Random augmentation of training images: brightness, stain and rotation, after flips and quarter turns (views)."""

import cv2
import numpy as np

from leukodash.config.run_config import RunConfig
from leukodash.data.views import VIEWS, view


def examples(images: np.ndarray, config: RunConfig, times: int) -> np.ndarray:
    """Return a picture of augmented cells: one row per cell, the original first.

    Args:
        images: uint8 (n, size, size, 3), RGB.
        config: see `augment`.
        times: number of augmented copies of each cell.

    Returns:
        uint8 (n · size, (1 + times) · size, 3), RGB: one picture.
    """
    columns = [images]
    for draw in range(times):
        rng = np.random.default_rng([config.seed, draw])
        views = rng.choice(len(VIEWS[config.flips]), len(images)) if config.flips != "none" else None
        columns.append(augment(images, views, config, [config.seed, draw]))
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def augment(images: np.ndarray, views: np.ndarray | None, config: RunConfig, seed: list[int]) -> np.ndarray:
    """Augment a batch of images; the same seed gives the same result.

    Args:
        images: uint8 (n, size, size, 3), RGB.
        views: (n,) positions in ``VIEWS[config.flips]``, or None.
        config: uses ``flips``, ``brightness``, ``stain``, ``rotation``.
        seed: seed of this batch.

    Returns:
        uint8 (n, size, size, 3). Black pixels stay black, so the background does not reveal the augmentation.
    """
    images = np.array(images)
    if views is not None:
        for i, position in enumerate(views):
            images[i] = view(images[i : i + 1], VIEWS[config.flips][position])[0]
    if not config.pixel_augmentation:
        return images
    rng = np.random.default_rng(seed)
    n, size = len(images), images.shape[1]
    if config.rotation:
        for i, angle in enumerate(rng.uniform(-config.rotation, config.rotation, n)):
            turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), angle, 1.0)
            images[i] = cv2.warpAffine(images[i], turn, (size, size), flags=cv2.INTER_LINEAR)
    gain = 1 + rng.uniform(-config.brightness, config.brightness, (n, 1, 1, 1))
    gain = gain * (1 + rng.uniform(-config.stain, config.stain, (n, 1, 1, 3)))
    return np.clip(images * gain.astype(np.float32), 0, 255).round().astype(np.uint8)
