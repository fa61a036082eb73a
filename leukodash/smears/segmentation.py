"""Where the white cells of a stained smear are, by color and shape: thresholds, distances, and no network.

All is told by optical density (Beer and Lambert), the logarithm of the empty slide's light over the pixel's. Stained
red cells absorb green and blue alike, white cells mostly green: green − blue is near 0 for the one, whatever its
thickness and the light, and high for a nucleus. Lengths are in red cells, so that magnification does not matter.

The constants were tuned on the first 40 BCCD photographs; any of them moved by a fifth, but for a wider neck, still
finds all 44 cells there. How well this does on the other 33: `python -m benchmarks.smear`.
"""

import cv2
import numpy as np

WORKING_PIXELS = 1_500_000  # cells are searched in a copy of at most this size
NUCLEUS, CELL = 0.2, 0.05  # least green − blue density of nuclei (raised where the stain is strong), of cytoplasm
REACH = 0.6  # how far cytoplasm goes on beyond the nucleus, red cells
GAP, SPUR = 0.22, 0.4  # gaps narrower than this are closed, what sticks out and is narrower than that is cut, red cells
NECK = 0.85  # cells touch where their outline narrows to less than this share of the smaller one
# Green − blue density summed over the nuclei, in red cells squared: how much stain a cell's DNA has bound. Large
# platelets reach 0.09, small lymphocytes begin at 0.17. And the least share of the slide's most stained cell.
STAIN, STAIN_SHARE = 0.12, 0.15


def density(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optical density against the slide's own light, which nine tenths of its pixels do not exceed.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.

    Returns:
        density: float32 (H, W, 3), 0 for the empty slide. light: float32 (3,), gray levels.
    """
    pixels = image.reshape(-1, 3)
    light = np.percentile(pixels[:: max(1, len(pixels) // 100_000)], 90, axis=0).astype(np.float32)
    table = np.log((light + 1) / (np.arange(256, dtype=np.float32)[:, None] + 1))
    return cv2.merge([table[:, channel][image[..., channel]] for channel in range(3)]), light


def label_white_cells(image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Find the white cells of a smear in a copy of at most `WORKING_PIXELS`.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.

    Returns:
        labels: int32 (h, w), the cell that each pixel of the copy belongs to: 1, 2, …, or 0 for none.
        red_cell: the diameter of a red cell in pixels of the copy. scale: of the copy, at most 1.
    """
    scale = min(1.0, (WORKING_PIXELS / (image.shape[0] * image.shape[1])) ** 0.5)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    dense, _ = density(cv2.GaussianBlur(small, None, 1.0))
    red_cell = _red_cell(dense[..., 2])
    violet = dense[..., 1] - dense[..., 2]
    nuclei = _opened(violet > max(NUCLEUS, 0.8 * _otsu(violet)), 0.05 * red_cell)
    near = cv2.distanceTransform(1 - nuclei, cv2.DIST_L2, 5) < REACH * red_cell
    cytoplasm = _opened(violet > CELL, 0.1 * red_cell) & near
    body = cv2.morphologyEx(nuclei | cytoplasm, cv2.MORPH_CLOSE, _disk(GAP / 2 * red_cell))
    return _cells(_opened(body, SPUR / 2 * red_cell), violet * nuclei, red_cell), red_cell, scale


def _cells(body: np.ndarray, stain: np.ndarray, red_cell: float) -> np.ndarray:
    """Label cells, int32 (h, w): lobes of a nucleus in one cell, touching cells apart, platelets left out."""
    outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    labels, stained = np.zeros(body.shape, np.int32), [0.0]
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        here = slice(top, top + height), slice(left, left + width)
        whole = cv2.drawContours(np.zeros((height, width), np.uint8), [outline - (left, top)], -1, 1, cv2.FILLED)
        parts = _split(whole, body[here] & whole, red_cell)
        labels[here][parts > 0] = parts[parts > 0] + len(stained) - 1
        stained += list(np.bincount(parts.ravel(), stain[here].ravel(), parts.max() + 1)[1:])
    enough = np.array(stained) >= max(STAIN * red_cell**2, STAIN_SHARE * max(stained))
    return np.where(enough, np.cumsum(enough), 0).astype(np.int32)[labels]


def _split(whole: np.ndarray, body: np.ndarray, red_cell: float) -> np.ndarray:
    """Label touching cells in one blob, int32: a watershed of the depth below the outline, started in the deepest.

    A deepest spot starts a cell of its own where every straight way to a deeper one leads over a neck. Each pixel
    then goes to the nearest of the disks around the spots: the cut runs through the neck also where one is smaller.

    Args:
        whole: uint8 (h, w), the blob with its holes filled. body: without; gaps between three cells are holes.
        red_cell: diameter, pixels.
    """
    depth = cv2.distanceTransform(np.pad(body, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deepest = (depth == cv2.dilate(depth, _disk(0.15 * red_cell))) & (depth > 0.3 * red_cell)
    spots: list[tuple[int, int]] = []
    steps = np.linspace(0, 1, 50)
    for row, column in sorted(np.argwhere(deepest).tolist(), key=lambda at: -depth[tuple(at)]):
        ways = (
            depth[np.rint(row + steps * (r - row)).astype(int), np.rint(column + steps * (c - column)).astype(int)]
            for r, c in spots
        )
        if all(way.min() < NECK * depth[row, column] for way in ways):
            spots.append((row, column))
    if len(spots) < 2:
        return whole.astype(np.int32)
    y, x = np.ogrid[: whole.shape[0], : whole.shape[1]]
    outside = [np.hypot(y - row, x - column) - depth[row, column] for row, column in spots]
    return (np.argmin(outside, axis=0).astype(np.int32) + 1) * whole


def _red_cell(blue: np.ndarray) -> float:
    """Diameter of a red cell in pixels, from the density in blue, which all cells have about alike.

    In a disk of radius R, nine tenths of the pixels are nearer than 0.68 R to the edge. Pale middles look like holes:
    those that are small for the size found so far are filled, three times over. On BCCD within 0.6 and 1.6 of the
    labelled red cells; too large where they pile up.
    """
    mask = (blue > max(0.05, _otsu(blue))).astype(np.uint8)
    outlines, nesting = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    holes = [outline for number, outline in enumerate(outlines) if nesting[0, number, 3] >= 0]
    areas = [cv2.contourArea(hole) for hole in holes]
    diameter = 1.0
    for _ in range(3):
        small = [hole for hole, area in zip(holes, areas, strict=True) if area < 0.3 * diameter**2]
        cv2.drawContours(mask, small, -1, 1, cv2.FILLED)
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0]
        diameter = 2 * float(np.percentile(depth, 90)) / (1 - 0.1**0.5) if depth.size else 1.0
    return diameter


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold of densities, of which those between 0 and 1 count."""
    return cv2.threshold(np.clip(values * 255, 0, 255).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)[0] / 255


def _disk(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """Without what is narrower than the disk, uint8."""
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disk(radius))
