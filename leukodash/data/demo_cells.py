"""Generate demo cells: drawn lymphoid cells on black, with C-NMC's file names and layout. They are not real cells.

The classes differ in the traits that hematologists use: a blast is larger and has a higher nucleus-to-cytoplasm ratio,
finer chromatin, nucleoli and an indented nucleus. Every trait overlaps between the classes. Stain, light, size and
focus vary by subject, and each subject has one class, so a split by image overestimates accuracy as it does on real
cells.
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from leukodash.atomic_write import replacing, sweep
from leukodash.errors import DataError
from leukodash.progress import Progress

IMAGE_SIZE = 224
VERSION = 1  # increase it when the same seed draws other pixels, so that older folders are recognized
FOLDS = 3
RECORD = "generated.json"
FILE_NAME = re.compile(r"UID_(?P<subject>H?\d+)_(?P<image>\d+)_(?P<cell>\d+)_(?P<label>all|hem)\.png")

# Optical density in R, G, B of a well-stained nucleus (violet) and of cytoplasm (pale blue).
NUCLEUS_DENSITY = np.array([0.98, 1.72, 0.82], np.float32)
CYTOPLASM_DENSITY = np.array([0.62, 0.66, 0.34], np.float32)
LIGHT = np.array([186, 172, 196], np.float32)  # gray levels of the empty smear


@dataclass(frozen=True)
class Stain:
    """The appearance of one subject's smear.

    Attributes:
        nucleus, cytoplasm: optical densities, float32 (3,), R, G, B.
        light: gray levels of the empty smear, float32 (3,), R, G, B.
        tilt: relative change of the light across the image in x and y.
        scale: size factor of all cells.
        blur: standard deviation of the focus blur, pixels.
    """

    nucleus: np.ndarray
    cytoplasm: np.ndarray
    light: np.ndarray
    tilt: tuple[float, float]
    scale: float
    blur: float


def subject_stain(rng: np.random.Generator) -> Stain:
    """Draw the appearance of one subject's smear at random."""
    strength = rng.normal(1, 0.12)
    hue = np.clip(rng.normal(0, 0.085), -0.15, 0.15)  # above 0 is redder, below 0 bluer
    tint = np.array([1 - hue, 1 + 0.2 * hue, 1 + hue], np.float32)
    tilt_x, tilt_y = rng.normal(0, 0.08, 2)
    return Stain(
        nucleus=NUCLEUS_DENSITY * tint * np.float32(strength),
        cytoplasm=CYTOPLASM_DENSITY * tint * np.float32(strength * rng.normal(1, 0.1)),
        light=LIGHT * np.float32(rng.normal(1, 0.08)) * rng.normal(1, 0.03, 3).astype(np.float32),
        tilt=(float(tilt_x), float(tilt_y)),
        scale=float(rng.normal(1, 0.05)),
        blur=float(rng.uniform(0.5, 1.7)),
    )


def demo_cell(rng: np.random.Generator, blast: bool, stain: Stain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one segmented cell.

    Absorption follows Beer and Lambert: gray level = light × exp(−optical density).

    Returns:
        image: uint8 array of shape (IMAGE_SIZE, IMAGE_SIZE, 3), RGB, black outside the cell.
        nucleus, cell: bool arrays of shape (IMAGE_SIZE, IMAGE_SIZE); the nucleus is inside the cell.
    """
    # How blast-like the cell is: about −1 for a normal lymphocyte, +1 for a blast. Each trait adds noise.
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
    direction = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(0, 0.8) * (1 - np.sqrt(nucleus_share)) * cell_radius
    cell = _filled(outline, angle, center)
    nucleus = np.minimum(
        _filled(inner, angle, center + offset * np.array([np.cos(direction), np.sin(direction)])), cell
    )

    chromatin = _chromatin(rng, clumping, nucleus, nucleoli)
    cytoplasm = 1 + 0.10 * _noise(rng, 5.0)
    soft = cv2.GaussianBlur(nucleus, (0, 0), 0.8)
    density = (soft * chromatin)[..., None] * stain.nucleus
    density += ((1 - soft) * cytoplasm)[..., None] * stain.cytoplasm
    ramp = np.linspace(-0.5, 0.5, IMAGE_SIZE, dtype=np.float32)
    shade = (1 + stain.tilt[0] * ramp + stain.tilt[1] * ramp[:, None]) * np.float32(rng.normal(1, 0.03))
    image = shade[..., None] * stain.light * np.exp(-density)
    image = cv2.GaussianBlur(image, (0, 0), stain.blur)
    image += rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE, 1), np.float32)  # camera noise
    image *= cell[..., None]  # cut out last, as in segmentation: a sharp edge on pure black
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), nucleus > 0.5, cell > 0.5


def _wobble(rng: np.random.Generator, angle: np.ndarray, elongation: float, roughness: float) -> np.ndarray:
    """Return the relative radius of a closed contour: an elliptical second harmonic plus smaller, higher ones."""
    orders = np.arange(2, 9)
    size = np.where(orders == 2, elongation, roughness * 3 / orders) * rng.normal(0, 1, orders.size)
    phase = rng.uniform(0, 2 * np.pi, orders.size)
    return 1 + (size[:, None] * np.cos(orders[:, None] * angle + phase[:, None])).sum(axis=0)


def _bump(angle: np.ndarray, at: float, width: float) -> np.ndarray:
    """Return a bump of height 1 around one direction; ``width`` is its standard deviation in radians."""
    distance = np.angle(np.exp(1j * (angle - at)))
    return np.exp(-0.5 * (distance / width) ** 2)


def _filled(radius: np.ndarray, angle: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return the fraction of each pixel inside the contour, float32 (IMAGE_SIZE, IMAGE_SIZE), 0..1, antialiased."""
    points = center + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return smooth noise of mean 0 and standard deviation about 1; ``sigma`` is its grain size in pixels."""
    white = rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    return cv2.GaussianBlur(white, (0, 0), sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)


def _chromatin(rng: np.random.Generator, clumping: float, nucleus: np.ndarray, nucleoli: int) -> np.ndarray:
    """Return the relative density of the chromatin: fine grain, clumps, a darker membrane, pale nucleoli."""
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

    About 60% of the cells are blasts, half of the subjects are healthy (``H1`` …), and no subject is in two folds. The
    same arguments give byte-identical files. The folder is created only when complete; an existing folder with the same
    demo is not changed.

    Args:
        folder: the folder to create.
        cells: number of cells, at least two per subject.
        subjects: number of subjects, 6 or more.
        seed: random seed, 0 or more.
        progress: called with the fraction done, 0..1, and a text.

    Returns:
        The folder.

    Raises:
        DataError: if the folder contains something else or the numbers are out of range.
    """
    folder = Path(folder)
    if subjects < 2 * FOLDS or cells < 2 * subjects or seed < 0:
        raise DataError(
            f"A demo needs at least {2 * FOLDS} subjects, two cells per subject and a seed of 0 or more; "
            f"got {subjects} subjects, {cells} cells and seed {seed}."
        )
    record = {"generated": True, "version": VERSION, "seed": seed, "cells": cells, "subjects": subjects}
    if _contains_demo(folder, record):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        with replacing(folder, durable=False) as drawing:
            _draw(drawing, cells, subjects, seed, progress)
            (drawing / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if _contains_demo(folder, record):  # another process has just drawn the same demo
            return folder
        raise DataError(
            f"The demo cells could not be written to {folder}: {error.strerror}. Choose a writable folder."
        ) from error
    return folder


def _contains_demo(folder: Path, record: dict) -> bool:
    """Return whether the folder contains this demo; False if it is missing or empty.

    Raises:
        DataError: if it contains something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        existing = _read_record(folder)
    except DataError:
        existing = None
    if existing == record:
        return True
    content = "a demo with other settings" if existing else "something other than demo cells"
    raise DataError(f"{folder} contains {content}. Choose an empty or new folder, or remove it first.")


def _read_record(folder: Path) -> dict:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not record.get("generated"):
        raise DataError(f"{folder} contains no demo cells: {RECORD} is missing or cannot be read.")
    return record


def _cell_counts(rng: np.random.Generator, cells: int, subjects: int) -> dict[str, int]:
    """Return the number of cells of each subject: "1", "2" … have ALL, "H1", "H2" … are healthy."""
    counts: dict[str, int] = {}
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
        class_folder = folder / f"fold_{(int(subject.lstrip('H')) - 1) % FOLDS}" / label
        class_folder.mkdir(parents=True, exist_ok=True)
        # Each smear image gives two cells.
        files += [class_folder / f"UID_{subject}_{i // 2 + 1}_{i % 2 + 1}_{label}.png" for i in range(count)]

    def draw(file: Path) -> None:
        image, _, _ = _cell_of_file(file.name, seed)
        _, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])  # 1: fast
        file.write_bytes(png.tobytes())

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(draw, files), start=1):
            if progress and (done % 10 == 0 or done == len(files)):
                progress(done / len(files), f"drawing demo cell {done} of {len(files)}")


def _cell_of_file(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the cell of a demo file, whose randomness depends only on the seed and the file name."""
    match = FILE_NAME.fullmatch(name)
    if not match:
        raise DataError(f"{name} is not the name of a demo cell (UID_<subject>_<image>_<cell>_all.png or …_hem.png).")
    healthy = match["subject"].startswith("H")
    subject = [seed, int(healthy), int(match["subject"].lstrip("H"))]
    stain = subject_stain(np.random.default_rng(subject))
    rng = np.random.default_rng([*subject, int(match["image"]), int(match["cell"])])
    return demo_cell(rng, not healthy, stain)


def demo_masks(folder: str | os.PathLike[str], file: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the nucleus and the cell in a demo image, by drawing it again.

    Args:
        folder: a demo data set.
        file: path of the image relative to it.

    Returns:
        nucleus, cell: bool arrays of shape (IMAGE_SIZE, IMAGE_SIZE).

    Raises:
        DataError: if there is no demo data set or file, or another version of LeukoDash drew the demo.
    """
    folder = Path(folder)
    record = _read_record(folder)
    if record.get("version") != VERSION:
        raise DataError(
            f"The demo cells in {folder} are of version {record.get('version')}, but this LeukoDash draws {VERSION}: "
            "remove the folder and create the demo again."
        )
    if not (folder / file).is_file():
        raise DataError(f"{file} is not in the demo data set {folder}.")
    _, nucleus, cell = _cell_of_file(Path(file).name, record["seed"])
    return nucleus, cell
