"""Images that are no cells, and cells rotated, moved or stained differently; for `benchmarks.novelty_rates`.

Everything is drawn from a seed, shipped with scikit-image and scikit-learn, or read from a folder of smears.
"""

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from leukodash.data.images import read_image
from leukodash.smears.detection import cut_outs, find_white_cells

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "horse.png", "motorcycle_left.png", "page.png", "rocket.jpg", "text.png"),
)
OTHER_SCIENCE = ("cell.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg", "microaneurysms.png")
SIDE = 320

Images = list[np.ndarray]
Draw = Callable[[np.random.Generator], np.ndarray]


def outsiders(smears: Path | None, seed: int = 0) -> dict[str, Images]:
    """Return images uint8 (H, W, 3), RGB, of the kinds that the target names; smears only where there is a folder."""
    rng = np.random.default_rng(seed)
    photographs = _photographs()
    kinds = {
        "photograph": photographs,
        "photograph, crop": [_crop(rng, photographs[n % len(photographs)], 60, 300) for n in range(100)],
        "noise": [_noise(rng, n) for n in range(60)],
        "drawing": [_drawing(rng) for _ in range(80)],
        "blank": _blanks(rng),
    }
    if smears:
        whole = [read_image(path) for path in sorted(smears.rglob("*.jpg"))]
        kinds["smear"] = whole
        kinds["smear, crop"] = [_crop(rng, image, 80, 240) for image in whole]
        kinds["smear, white cell uncut"] = _white_cells(smears)
    return kinds


def hard_outsiders(cells: Images, smears: Path | None, seed: int = 0) -> dict[str, Images]:
    """Return images that resemble the training cells in something: they lie on black, or are made of cells.

    Args:
        cells: uint8 (H, W, 3), RGB, segmented cells on black that no run was trained on.
        smears: folder of smears of another stain, whose white cells are cut out.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 1])
    photographs = _photographs()
    whole = [read_image(path) for path in sorted(smears.rglob("*.jpg"))] if smears else []
    cut_out = [cell for image in whole for cell in cut_outs(image, find_white_cells(image))]
    return {
        **({"another lab's white cell, cut out": cut_out} if cut_out else {}),
        "photograph in a disk on black": [
            _disk(_crop(rng, photographs[n % len(photographs)], 100, 300), rng) for n in range(60)
        ],
        "noise in a disk on black": [_disk(_noise(rng, n), rng) for n in range(40)],
        "drawn purple blob on black": [_blob(rng) for _ in range(60)],
        "drawing on black": [_drawing(rng, black=True) for _ in range(40)],
        "other micrograph": [_crop(rng, image, 150, 320) for image in _shipped(OTHER_SCIENCE) for _ in range(8)],
        "two cells": [_two(one, other) for one, other in itertools.pairwise(cells)],
        "cell on white": [
            np.where(image.max(axis=2, keepdims=True) < 6, 255, image).astype(np.uint8) for image in cells
        ],
        "negative of a cell": [255 - image for image in cells],
        "cell in green": [image[..., [0, 2, 1]] for image in cells],
        "cell in gray": [np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2) for image in cells],
        "cell shuffled in tiles": [_shuffled(rng, image) for image in cells],
    }


def variants(cells: Images, seed: int = 0) -> dict[str, Images]:
    """Return the same cells as another camera, slide or hand would give them: these should be accepted."""
    rng = np.random.default_rng([seed, 2])
    return {
        "as it is": cells,
        "upside down": [image[::-1] for image in cells],
        "quarter turn": [np.rot90(image) for image in cells],
        "turned by 30°": [_moved(image, angle=30) for image in cells],
        "off-center": [_moved(image, *rng.integers(-60, 61, 2)) for image in cells],
        "trimmed to the cell": [_trimmed(image) for image in cells],
        "JPEG, quality 80": [_jpeg(image) for image in cells],
        "10 % darker": [(image * 0.9).astype(np.uint8) for image in cells],
        "10 % brighter": [np.clip(image * 1.1, 0, 255).astype(np.uint8) for image in cells],
        "hue moved by 10°": [_hue(image, 5) for image in cells],
        "hue moved by 30°": [_hue(image, 15) for image in cells],
        "half as large": [_moved(image, scale=0.5) for image in cells],
    }


# ------------------------------------------------------------------------------------------------- outsiders


def _shipped(names: tuple[str, ...]) -> Images:
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    return [read_image(folder / name) for name in names]


def _photographs() -> Images:
    from sklearn.datasets import load_sample_images

    faces = np.load(Path(importlib.util.find_spec("skimage").origin).parent / "data" / "lfw_subset.npy")[:20]
    faces = [np.repeat((face * 255).astype(np.uint8)[..., None], 3, axis=2) for face in faces]
    return [*_shipped(PHOTOGRAPHS), *load_sample_images().images, *faces]


def _crop(rng: np.random.Generator, image: np.ndarray, smallest: int, largest: int) -> np.ndarray:
    side = min(int(rng.integers(smallest, largest)), *image.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _noise(rng: np.random.Generator, number: int) -> np.ndarray:
    """White, gray, smooth, or salt and pepper, in turn."""
    noise = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    if number % 4 == 1:
        noise = np.repeat(noise[..., :1], 3, axis=2)
    elif number % 4 == 2:
        noise = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), rng.uniform(2, 30)), None, 0, 255, cv2.NORM_MINMAX)
    elif number % 4 == 3:
        noise = np.repeat(((noise[..., :1] > rng.integers(20, 236)) * 255).astype(np.uint8), 3, axis=2)
    return noise


def _drawing(rng: np.random.Generator, black: bool = False) -> np.ndarray:
    """Return circles, rectangles, lines and letters, in a few colors."""
    image = np.full((SIDE, SIDE, 3), 0 if black else rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y, size = (int(value) for value in rng.integers(20, SIDE - 20, 3))
        thickness = int(rng.choice([-1, 2, 5]))
        shape = int(rng.integers(0, 4))
        if shape == 0:
            cv2.circle(image, (x, y), size // 3, color, thickness)
        elif shape == 1:
            cv2.rectangle(image, (x // 2, y // 2), (x // 2 + size, y // 2 + size // 2), color, thickness)
        elif shape == 2:
            cv2.line(image, (x, y), (size, x), color, abs(thickness) + 1)
        else:
            word = "".join(rng.choice(list("ALLleukemia 0123"), 5))
            cv2.putText(image, word, (x // 3, y), cv2.FONT_HERSHEY_SIMPLEX, size / 100, color, 3)
    return image


def _blanks(rng: np.random.Generator) -> Images:
    grays = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 1, 5, 20, 64, 128, 192, 250, 255)]
    colors = [np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(30)]
    purple = [np.full((SIDE, SIDE, 3), color, np.uint8) for color in ((120, 60, 150), (90, 40, 130), (160, 110, 190))]
    ramp = np.linspace(0, 255, SIDE).astype(np.uint8)
    across = np.repeat(np.repeat(ramp[None, :, None], SIDE, axis=0), 3, axis=2)
    return [*grays, *colors, *purple, across, across.transpose(1, 0, 2)]


def _white_cells(smears: Path) -> Images:
    """The boxes of white cells as they lie in the smear, with what is around them."""
    cells = []
    for path in sorted(smears.rglob("*.xml")):
        image = read_image(next(smears.rglob(path.stem + ".jpg")))
        for thing in ElementTree.parse(path).iter("object"):
            box = [int(thing.find("bndbox").find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")]
            if thing.find("name").text == "WBC" and min(box[2] - box[0], box[3] - box[1]) > 20:
                cells.append(image[max(0, box[1]) : box[3], max(0, box[0]) : box[2]])
    return cells


def _disk(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    axes = tuple(int(value) for value in rng.integers(50, 100, 2))
    cv2.ellipse(mask, (SIDE // 2, SIDE // 2), axes, int(rng.integers(0, 180)), 0, 360, 255, -1)
    return np.where(mask[..., None] > 0, image, 0)


def _blob(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    center = (SIDE // 2, SIDE // 2)
    around = tuple(int(value) for value in rng.integers((130, 90, 160), (190, 150, 220)))
    within = tuple(int(value) for value in rng.integers((70, 30, 100), (120, 70, 150)))
    axes = rng.integers(60, 100, 2)
    cv2.ellipse(image, center, tuple(int(a) for a in axes), int(rng.integers(0, 180)), 0, 360, around, -1)
    cv2.ellipse(image, center, tuple(int(a) for a in axes * rng.uniform(0.6, 0.95)), 0, 0, 360, within, -1)
    return image


def _two(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Both cells side by side, as large as they were."""
    one, other = _trimmed(one), _trimmed(other)
    height, width = max(len(one), len(other)), one.shape[1] + other.shape[1]
    image = np.zeros((max(SIDE, height), max(SIDE, width), 3), np.uint8)
    for cell, left in ((one, (image.shape[1] - width) // 2), (other, (image.shape[1] - width) // 2 + one.shape[1])):
        top = (len(image) - len(cell)) // 2
        image[top : top + len(cell), left : left + cell.shape[1]] = cell
    return image


def _shuffled(rng: np.random.Generator, image: np.ndarray, tiles: int = 8) -> np.ndarray:
    side = len(image) // tiles
    parts = image[: side * tiles, : side * tiles].reshape(tiles, side, tiles, side, 3).swapaxes(1, 2)
    parts = rng.permutation(parts.reshape(tiles * tiles, side, side, 3))
    return parts.reshape(tiles, tiles, side, side, 3).swapaxes(1, 2).reshape(side * tiles, side * tiles, 3)


# -------------------------------------------------------------------------------------------------- variants


def _moved(image: np.ndarray, right: int = 0, down: int = 0, angle: float = 0, scale: float = 1) -> np.ndarray:
    height, width = image.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    move[:, 2] += right, down
    return cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _trimmed(image: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(image.max(axis=2) > 5)
    return image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _jpeg(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)


def _hue(image: np.ndarray, steps: int) -> np.ndarray:
    """Turn the hue by `steps` of two degrees."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + steps) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
