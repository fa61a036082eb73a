"""Overlay of a heat map on a cell, and the legend of its colors."""

import cv2
import numpy as np

# Perceptually uniform and suitable for all types of color vision.
COLOR_MAPS = {"inferno": cv2.COLORMAP_INFERNO, "viridis": cv2.COLORMAP_VIRIDIS, "cividis": cv2.COLORMAP_CIVIDIS}


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.5, color_map: str = "inferno") -> np.ndarray:
    """Blend a heat map over an image.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.
        heat: float array of shape (h, w), 0..1, resized to the image by bilinear interpolation.
        opacity: 0 shows only the image, 1 only the heat map.
        color_map: a key of `COLOR_MAPS`.

    Returns:
        uint8 array of shape (H, W, 3), RGB.
    """
    height, width = image.shape[:2]
    large = cv2.resize(np.asarray(heat, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(large.clip(0, 1) * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, COLOR_MAPS[color_map])[..., ::-1]
    return np.rint(image * (1 - opacity) + colors * opacity).astype(np.uint8)


def color_bar(color_map: str, width: int = 120, height: int = 12) -> np.ndarray:
    """Return the colors of a heat map from no heat (left) to the highest (right), uint8 (height, width, 3), RGB."""
    return overlay(np.zeros((height, width, 3), np.uint8), np.linspace(0, 1, width)[None], 1, color_map)
