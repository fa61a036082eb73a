"""Segment the white cells of a stained smear by color and shape, with thresholds and distances but no network.

It uses optical density (Beer–Lambert law): the log ratio of the empty slide's light to the pixel's. Stained red cells
absorb green and blue equally, white cells mostly green, so green − blue is near 0 for red cells of any thickness in any
light, and high for nuclei. Lengths are in red-cell diameters, so magnification does not matter.

The constants were tuned on the first 40 BCCD images. Changing any of them by a fifth, except for a wider neck, still
finds all 44 cells there. `python -m benchmarks.smear` measures the results on the other 33 images.
"""

import cv2
import numpy as np

WORKING_PIXELS = 1_500_000  # larger images are segmented in a copy of this size
NUCLEUS, CELL = 0.2, 0.05  # minimum green − blue density of nuclei (higher in a strong stain) and cytoplasm
REACH = 0.6  # maximum distance of cytoplasm from the nucleus, red-cell diameters
GAP, SPUR = 0.22, 0.4  # narrower gaps are closed and narrower protrusions cut off, red-cell diameters
NECK = 0.85  # a blob is split where it narrows to less than this fraction of the smaller cell
# Minimum of the green − blue density summed over a cell's nuclei (the stain bound by its DNA), in squared red-cell
# diameters: large platelets reach 0.09, small lymphocytes have 0.17. Second, the minimum relative to the maximum.
STAIN, STAIN_SHARE = 0.12, 0.15
MAX_RED_CELL = 300  # pixels of the copy: a fifth of its longer side
# What limits the time for images that only look like smears: blobs, the area of their boxes relative to the image's,
# possible centers of cells in all blobs, and pixels times centers of one blob. The largest come first.
MAX_BLOBS, MAX_AREA, MAX_CENTERS, MAX_PIXELS_BY_CENTERS = 1000, 4, 2000, 150_000_000


def density(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the optical density of a smear relative to the empty slide, whose light is the image's 90th percentile.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.

    Returns:
        density: float32 array of shape (H, W, 3), 0 for the empty slide.
        light: float32 array of shape (3,), gray levels 0..255.
    """
    pixels = image.reshape(-1, 3)
    light = np.percentile(pixels[:: max(1, len(pixels) // 100_000)], 90, axis=0).astype(np.float32)
    table = np.log((light + 1) / (np.arange(256, dtype=np.float32)[:, None] + 1))
    return cv2.merge([table[:, channel][image[..., channel]] for channel in range(3)]), light


def label_white_cells(image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Label the white cells of a smear in a copy of at most `WORKING_PIXELS`.

    Args:
        image: uint8 array of shape (H, W, 3), RGB.

    Returns:
        labels: int32 array of shape (h, w): the cell of each pixel of the copy, 1, 2, …, or 0 for none.
        red_cell: diameter of a red cell in pixels of the copy.
        scale: scale of the copy, at most 1.
    """
    scale = min(1.0, (WORKING_PIXELS / (image.shape[0] * image.shape[1])) ** 0.5)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    dense, _ = density(cv2.GaussianBlur(small, (0, 0), 1.0))
    red_cell = _red_cell(dense[..., 2])
    violet = dense[..., 1] - dense[..., 2]
    nuclei = _opened(violet > max(NUCLEUS, 0.8 * _otsu(violet)), 0.05 * red_cell)
    near = cv2.distanceTransform(1 - nuclei, cv2.DIST_L2, 5) < REACH * red_cell
    cytoplasm = _opened(violet > CELL, 0.1 * red_cell) * near
    body = cv2.morphologyEx(np.maximum(nuclei, cytoplasm), cv2.MORPH_CLOSE, _disk(GAP / 2 * red_cell))
    return _cells(_opened(body, SPUR / 2 * red_cell), violet * nuclei, red_cell), red_cell, scale


def _cells(body: np.ndarray, stain: np.ndarray, red_cell: float) -> np.ndarray:
    """Label the cells, int32 (h, w): lobes of a nucleus joined, touching cells separated, platelets removed."""
    outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    labels, stained = np.zeros(body.shape, np.int32), [0.0]
    area_left, centers_left = MAX_AREA * body.size, MAX_CENTERS
    boxes = sorted(
        ((cv2.boundingRect(outline), outline) for outline in outlines), key=lambda box: -box[0][2] * box[0][3]
    )
    for (left, top, width, height), outline in boxes[:MAX_BLOBS]:
        area_left -= width * height
        if area_left < 0:
            break
        here = slice(top, top + height), slice(left, left + width)
        whole = cv2.drawContours(np.zeros((height, width), np.uint8), [outline - (left, top)], -1, 1, cv2.FILLED)
        most = min(centers_left, MAX_PIXELS_BY_CENTERS // whole.size)
        parts, looked_at = _split(whole, body[here] & whole, red_cell, most)
        centers_left -= looked_at
        labels[here][parts > 0] = parts[parts > 0] + len(stained) - 1
        stained += list(np.bincount(parts.ravel(), stain[here].ravel(), parts.max() + 1)[1:])
    enough = np.array(stained) >= max(STAIN * red_cell**2, STAIN_SHARE * max(stained))
    return np.where(enough, np.cumsum(enough), 0).astype(np.int32)[labels]


def _split(whole: np.ndarray, body: np.ndarray, red_cell: float, most: int) -> tuple[np.ndarray, int]:
    """Label touching cells in one blob, int32, by maxima of the distance from the outline.

    A maximum is the center of a separate cell if every straight line to a higher one crosses a neck. Each pixel belongs
    to the nearest of the disks around the centers, so the cut goes through the neck even if the cells differ in size.

    Args:
        whole: uint8 array of shape (h, w): the blob with its holes filled.
        body: the same without filling, as gaps between three cells are holes.
        red_cell: diameter of a red cell, pixels.
        most: number of maxima that are looked at, the deepest ones.

    Returns:
        The label of each pixel, and the number of maxima that were looked at.
    """
    depth = cv2.distanceTransform(np.pad(body, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    maxima = (depth == cv2.dilate(depth, _disk(0.15 * red_cell))) & (depth > 0.3 * red_cell)
    places = np.argwhere(maxima)
    places = places[np.argsort(-depth[maxima], kind="stable")[:most]]
    centers = places[:0]
    steps = np.linspace(0, 1, 50)[:, None, None]
    for place in places:
        lines = np.rint(place + steps * (centers - place)).astype(int)  # (50, centers, 2)
        if (depth[lines[..., 0], lines[..., 1]].min(axis=0) < NECK * depth[tuple(place)]).all():
            centers = np.vstack([centers, place])
    parts = whole.astype(np.int32)
    if len(centers) > 1:
        y, x = np.ogrid[: whole.shape[0], : whole.shape[1]]
        nearest = np.full(whole.shape, np.inf)
        for number, (row, column) in enumerate(centers, 1):
            outside = np.hypot(y - row, x - column) - depth[row, column]
            parts[outside < nearest] = number
            np.minimum(nearest, outside, out=nearest)
    return parts * whole, len(places)


def _red_cell(blue: np.ndarray) -> float:
    """Return the diameter of a red cell in pixels, from the density in blue, which is similar in all cells.

    In a disk of radius R, 90% of the pixels are nearer than 0.68 R to the edge. Pale centers look like holes, so holes
    that are small for the current estimate are filled, in three iterations. On BCCD the result is 0.6 to 1.6 times the
    size of the labeled red cells; it is too large where they overlap.
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
    return min(diameter, MAX_RED_CELL)


def _otsu(values: np.ndarray) -> float:
    """Return Otsu's threshold of densities, clipped to 0..1."""
    return cv2.threshold(np.clip(values * 255, 0, 255).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)[0] / 255


def _disk(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """Remove everything narrower than the disk, uint8."""
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disk(radius))
