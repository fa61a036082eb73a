"""A heat map over a cell."""

import cv2
import numpy as np

# Dark to light in even steps, told apart with any color vision; light in the middle of attention on every page.
COLOR_MAPS = {"inferno": cv2.COLORMAP_INFERNO, "viridis": cv2.COLORMAP_VIRIDIS, "cividis": cv2.COLORMAP_CIVIDIS}


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.5, color_map: str = "inferno") -> np.ndarray:
    """Lay a heat map over an image.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: float (h, w), 0 to 1, scaled up to the image smoothly.
        opacity: 0 shows the image alone, 1 the map alone.
        color_map: a key of `COLOR_MAPS`.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    height, width = image.shape[:2]
    large = cv2.resize(np.asarray(heat, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(large.clip(0, 1) * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, COLOR_MAPS[color_map])[..., ::-1]
    return np.rint(image * (1 - opacity) + colors * opacity).astype(np.uint8)
