"""Drawn smears with generated white cells."""

import cv2
import numpy as np

from leukodash.data.demo_cells import demo_cell, subject_stain
from leukodash.smears.detection import Box

RED_CELL = 60  # pixels
LIGHT = (222, 216, 226)
RED_DENSITY, VIOLET, PALE = (0.12, 0.45, 0.45), (0.6, 0.95, 0.25), (0.08, 0.25, 0.1)  # in R, G, B


def stained(image, center, radius, density):
    """Darken a disk with a soft edge, like a stain of this optical density."""
    reach = int(radius) + 20
    left, top = max(0, int(center[0]) - reach), max(0, int(center[1]) - reach)
    here = image[top : int(center[1]) + reach, left : int(center[0]) + reach]
    y, x = np.ogrid[top : top + here.shape[0], left : left + here.shape[1]]
    edge = (np.hypot(x - center[0], y - center[1]) - radius) / 1.5
    here *= np.exp(-(1 / (1 + np.exp(edge)))[..., None] * np.array(density))


def smear(cells, size=(640, 800), red_cells=70, seed=0, extras=()):
    """Return a smear and the boxes of its cells: generated cells at these centers and red cells in the free space.

    extras: (center, radius, density) of further disks.
    """
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), LIGHT, np.float64)
    taken = [(center, 1.5) for center in cells] + [(center, 2.2) for center, _, _ in extras]
    for _ in range(20 * red_cells):
        center = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        if len(taken) < red_cells and all(np.hypot(*np.subtract(center, at)) > gap * RED_CELL for at, gap in taken):
            taken.append((center, 0.95))
            stained(image, center, RED_CELL / 2, RED_DENSITY)
    for extra in extras:
        stained(image, *extra)
    stain, boxes, side = subject_stain(rng), [], round(3.2 * RED_CELL)
    for x, y in cells:
        cell, _, inside = demo_cell(rng, blast=True, stain=stain)
        cell = cv2.resize(cell, (side, side), interpolation=cv2.INTER_AREA)
        rows, columns = np.nonzero(cv2.resize(inside.astype(np.uint8), (side, side)))
        down, right = rows + round(y) - side // 2, columns + round(x) - side // 2
        seen = (down >= 0) & (right >= 0) & (down < size[0]) & (right < size[1])
        image[down[seen], right[seen]] = cell[rows[seen], columns[seen]]
        corners = right[seen].min(), down[seen].min(), right[seen].max() + 1, down[seen].max() + 1
        boxes.append(Box(*map(int, corners)))
    image = cv2.GaussianBlur(image, None, 0.8) + rng.normal(0, 2, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), boxes


def smear_of_four():
    """Return a smear with four white cells, the last two cut by its border, and their boxes."""
    return smear([(200, 150), (600, 420), (3, 500), (420, 632)])
