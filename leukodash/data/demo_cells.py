"""The generated demo cells: drawn lymphoid cells on black, named and laid out as C-NMC is. Never real ones.

What tells the classes apart is what a hematologist names: a blast is larger, has more nucleus for its cytoplasm,
finer chromatin, nucleoli, and an indented nucleus. Every trait overlaps between the classes. Stain, light, size and
focus belong to the subject, and each subject has one class, so a split by image flatters a network here too.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from leukodash.errors import DataError

IMAGE_SIZE = 224
VERSION = 1  # raise it when the same seed draws other pixels: older folders then say that they are older
FOLDS = 3
RECORD = "generated.json"
FILE_NAME = re.compile(r"UID_(?P<subject>H?\d+)_(?P<image>\d+)_(?P<cell>\d+)_(?P<label>all|hem)\.png")

Progress = Callable[[float, str], None]

# Optical density of a well stained nucleus and of cytoplasm in R, G, B: violet, and a pale blue.
NUCLEUS_DENSITY = np.array([0.98, 1.72, 0.82], np.float32)
CYTOPLASM_DENSITY = np.array([0.62, 0.66, 0.34], np.float32)
LIGHT = np.array([186, 172, 196], np.float32)  # gray levels of the empty smear


@dataclass(frozen=True)
class Stain:
    """How one subject's smear looks.

    nucleus, cytoplasm: optical densities, float32 (3,), R, G, B.
    light: gray levels of the empty smear, float32 (3,). tilt: relative change of light across the frame in x and y.
    scale: size factor of all cells. blur: standard deviation of the focus blur, pixels.
    """

    nucleus: np.ndarray
    cytoplasm: np.ndarray
    light: np.ndarray
    tilt: tuple[float, float]
    scale: float
    blur: float


def subject_stain(rng: np.random.Generator) -> Stain:
    """Draw the look of one subject's smear."""
    strength = rng.normal(1, 0.12)
    hue = np.clip(rng.normal(0, 0.085), -0.15, 0.15)  # above 0 is redder, below 0 bluer
    turn = np.array([1 - hue, 1 + 0.2 * hue, 1 + hue], np.float32)
    tilt_x, tilt_y = rng.normal(0, 0.08, 2)
    return Stain(
        nucleus=NUCLEUS_DENSITY * turn * np.float32(strength),
        cytoplasm=CYTOPLASM_DENSITY * turn * np.float32(strength * rng.normal(1, 0.1)),
        light=LIGHT * np.float32(rng.normal(1, 0.08)) * rng.normal(1, 0.03, 3).astype(np.float32),
        tilt=(float(tilt_x), float(tilt_y)),
        scale=float(rng.normal(1, 0.05)),
        blur=float(rng.uniform(0.5, 1.7)),
    )


def demo_cell(rng: np.random.Generator, blast: bool, stain: Stain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one segmented cell.

    Absorption follows Beer and Lambert: gray level = light × exp(−optical density).

    Returns:
        image: uint8 (IMAGE_SIZE, IMAGE_SIZE, 3), RGB, black outside the cell.
        nucleus, cell: bool (IMAGE_SIZE, IMAGE_SIZE); the nucleus lies inside the cell.
    """
    # How blast-like the cell looks: about −1 for a normal lymphocyte, +1 for a blast. Each trait adds its own noise.
    grade = rng.normal(0.9 if blast else -0.9, 0.5)
    cell_radius = 0.5 * IMAGE_SIZE * stain.scale * np.clip(rng.normal(0.50 + 0.030 * grade, 0.035), 0.36, 0.68)
    nucleus_share = np.clip(rng.normal(0.83 + 0.055 * grade, 0.04), 0.60, 0.96)  # of the cell's area
    roughness = np.clip(rng.normal(0.020 + 0.008 * grade, 0.006), 0.006, 0.05)
    indented = rng.random() < np.clip(0.30 + 0.22 * grade, 0.03, 0.9)
    clumping = np.clip(rng.normal(0.15 - 0.075 * grade, 0.035), 0.03, 0.35)
    nucleoli = min(rng.poisson(np.clip(0.8 + 0.75 * grade, 0.08, 2.5)), 4)

    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    outline = cell_radius * _wobble(rng, angle, elongation=0.06, roughness=0.012)
    inner = outline * np.sqrt(nucleus_share) * _wobble(rng, angle, elongation=0.02, roughness=roughness)
    inner = np.minimum(inner, outline - 1.5)
    if indented:
        inner *= 1 - rng.uniform(0.12, 0.4) * _bump(angle, rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.4))
    center = IMAGE_SIZE / 2 + rng.normal(0, 2, 2)
    away = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(0, 0.8) * (1 - np.sqrt(nucleus_share)) * cell_radius
    cell = _filled(outline, angle, center)
    nucleus = np.minimum(_filled(inner, angle, center + offset * np.array([np.cos(away), np.sin(away)])), cell)

    chromatin = _chromatin(rng, clumping, nucleus, nucleoli)
    cytoplasm = 1 + 0.10 * _noise(rng, 5.0)
    soft = cv2.GaussianBlur(nucleus, None, 0.8)
    density = (soft * chromatin)[..., None] * stain.nucleus
    density += ((1 - soft) * cytoplasm)[..., None] * stain.cytoplasm
    ramp = np.linspace(-0.5, 0.5, IMAGE_SIZE, dtype=np.float32)
    shade = (1 + stain.tilt[0] * ramp + stain.tilt[1] * ramp[:, None]) * np.float32(rng.normal(1, 0.03))
    image = shade[..., None] * stain.light * np.exp(-density)
    image = cv2.GaussianBlur(image, None, stain.blur)
    image += rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE, 1), np.float32)  # the camera's noise
    image *= cell[..., None]  # cut out last, as segmentation does: a sharp edge on pure black
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), nucleus > 0.5, cell > 0.5


def _wobble(rng: np.random.Generator, angle: np.ndarray, elongation: float, roughness: float) -> np.ndarray:
    """Relative radius of a closed contour: an ellipse-like second harmonic and smaller, finer ones."""
    orders = np.arange(2, 9)
    size = np.where(orders == 2, elongation, roughness * 3 / orders) * rng.normal(0, 1, orders.size)
    phase = rng.uniform(0, 2 * np.pi, orders.size)
    return 1 + (size[:, None] * np.cos(orders[:, None] * angle + phase[:, None])).sum(axis=0)


def _bump(angle: np.ndarray, at: float, width: float) -> np.ndarray:
    """A bump of height 1 around one direction; ``width`` is its standard deviation in radians."""
    distance = np.angle(np.exp(1j * (angle - at)))
    return np.exp(-0.5 * (distance / width) ** 2)


def _filled(radius: np.ndarray, angle: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Share of each pixel inside the contour, float32 (IMAGE_SIZE, IMAGE_SIZE) in 0..1, smooth at its edge."""
    points = center + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation about 1; ``sigma`` is its grain in pixels."""
    white = rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    return cv2.GaussianBlur(white, None, sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)


def _chromatin(rng: np.random.Generator, clumping: float, nucleus: np.ndarray, nucleoli: int) -> np.ndarray:
    """Relative density of the chromatin: fine grain, clumps, a darker rim at the membrane, pale nucleoli."""
    grain, clumps, drift = _noise(rng, 1.1), _noise(rng, rng.uniform(2.2, 3.6)), _noise(rng, 9.0)
    density = 1 + 0.05 * grain + clumping * (np.tanh(1.2 * clumps) + 0.3 * grain) + 0.04 * drift
    depth = cv2.distanceTransform((nucleus > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    density += 0.10 * np.exp(-depth / 3)
    inside = np.argwhere(depth > 0.35 * depth.max())
    rows, columns = np.ogrid[:IMAGE_SIZE, :IMAGE_SIZE]
    for row, column in inside[rng.integers(len(inside), size=nucleoli)]:
        radius = rng.uniform(4, 8)
        distance = np.sqrt((rows - row) ** 2 + (columns - column) ** 2) / radius
        pale = rng.uniform(0.15, 0.33)
        density += 0.07 * np.exp(-(((distance - 1.5) / 0.4) ** 2)) - pale / (1 + np.exp(5 * (distance - 1)))
    return np.maximum(density, 0.2).astype(np.float32)


def make_demo(
    folder: str | os.PathLike[str],
    cells: int = 600,
    subjects: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Draw the demo data set: ``fold_{0,1,2}/{all,hem}/UID_<subject>_<image>_<cell>_<label>.png``.

    About 60 % of the cells are blasts, half of the subjects are healthy (``H1`` …), and no subject is in two folds.
    The same arguments give byte-identical files. The folder appears only when it is complete; one that already
    holds the same demo is left as it is.

    Returns:
        The folder.

    Raises:
        DataError: the folder holds something else, or the numbers cannot make a data set.
    """
    folder = Path(folder)
    if subjects < 2 * FOLDS or cells < 2 * subjects or seed < 0:
        raise DataError(
            f"A demo needs at least {2 * FOLDS} subjects, two cells a subject and a seed of 0 or more; "
            f"got {subjects} subjects, {cells} cells and seed {seed}."
        )
    record = {"generated": True, "version": VERSION, "seed": seed, "cells": cells, "subjects": subjects}
    if _holds_demo(folder, record):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".demo-") as temporary:
            drawing = Path(temporary) / "demo"
            _draw(drawing, cells, subjects, seed, progress)
            (drawing / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            if folder.is_dir():
                folder.rmdir()
            drawing.replace(folder)
    except OSError as error:
        if _holds_demo(folder, record):  # another process drew the same demo and was faster
            return folder
        raise DataError(
            f"The demo cells could not be written to {folder}: {error.strerror}. Name a folder that can be written."
        ) from error
    return folder


def _holds_demo(folder: Path, record: dict) -> bool:
    """Whether the folder holds this very demo; False where it is missing or empty.

    Raises:
        DataError: it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = _read_record(folder)
    except DataError:
        found = None
    if found == record:
        return True
    what = "a demo made with other settings" if found else "something other than demo cells"
    raise DataError(f"{folder} holds {what}. Name an empty or new folder for the demo cells, or remove it first.")


def _read_record(folder: Path) -> dict:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not record.get("generated"):
        raise DataError(f"{folder} holds no demo cells: {RECORD} is missing there or cannot be read.")
    return record


def _cell_counts(rng: np.random.Generator, cells: int, subjects: int) -> dict[str, int]:
    """How many cells each subject gives: subjects "1", "2" … have ALL, "H1", "H2" … are healthy."""
    counts = {}
    blasts = round(0.6 * cells)
    patients = subjects // 2
    for prefix, number, total in (("", patients, blasts), ("H", subjects - patients, cells - blasts)):
        share = rng.uniform(0.6, 1.4, number)
        edges = np.rint(np.cumsum(share / share.sum()) * (total - number)).astype(int)
        extra = np.diff(edges, prepend=0)
        counts |= {f"{prefix}{i + 1}": int(1 + extra[i]) for i in range(number)}
    return counts


def _draw(folder: Path, cells: int, subjects: int, seed: int, progress: Progress | None) -> None:
    files = []
    for subject, count in _cell_counts(np.random.default_rng([seed]), cells, subjects).items():
        label = "hem" if subject.startswith("H") else "all"
        place = folder / f"fold_{(int(subject.lstrip('H')) - 1) % FOLDS}" / label
        place.mkdir(parents=True, exist_ok=True)
        # Two cells are cut from each smear image.
        files += [place / f"UID_{subject}_{i // 2 + 1}_{i % 2 + 1}_{label}.png" for i in range(count)]

    def draw(file: Path) -> None:
        image, _, _ = _cell_of_file(file.name, seed)
        _, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])  # 1: quick
        file.write_bytes(png.tobytes())

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(draw, files), start=1):
            if progress and (done % 10 == 0 or done == len(files)):
                progress(done / len(files), f"drawing demo cell {done} of {len(files)}")


def _cell_of_file(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the cell that a demo file is named for; its randomness comes from the seed and the name alone."""
    match = FILE_NAME.fullmatch(name)
    if not match:
        raise DataError(f"{name} is not named like a demo cell (UID_<subject>_<image>_<cell>_all.png or …_hem.png).")
    healthy = match["subject"].startswith("H")
    subject = [seed, int(healthy), int(match["subject"].lstrip("H"))]
    stain = subject_stain(np.random.default_rng(subject))
    rng = np.random.default_rng([*subject, int(match["image"]), int(match["cell"])])
    return demo_cell(rng, not healthy, stain)


def demo_masks(folder: str | os.PathLike[str], file: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the nucleus and the cell are in a demo image, found by drawing it again.

    Args:
        folder: a demo data set.
        file: the image's path relative to it.

    Returns:
        nucleus, cell: bool (IMAGE_SIZE, IMAGE_SIZE).

    Raises:
        DataError: no demo data set, no such file in it, or a demo drawn by another version of LeukoDash.
    """
    folder = Path(folder)
    record = _read_record(folder)
    if record.get("version") != VERSION:
        raise DataError(
            f"The demo cells in {folder} are of version {record.get('version')}, this LeukoDash draws {VERSION}: "
            "remove the folder and make the demo again."
        )
    if not (folder / file).is_file():
        raise DataError(f"{file} is not in the demo data set {folder}.")
    _, nucleus, cell = _cell_of_file(Path(file).name, record["seed"])
    return nucleus, cell
