"""Near-duplicates: images of the same cell that are lighter, darker, shifted, scaled, turned, mirrored or refocused.

C-NMC contains hundreds of them, some under two subjects: one person under two names. Byte-identity finds few of them.

Each cell is scaled to the same area around its center, so that shift and scale hardly matter. A coarse patch of it is
compared with the eight views of every other cell; whitening removes what all cells have in common, a round blob. Pairs
that are alike are aligned at full size, if need be with a turn of some degrees, and compared in outline and in texture.

In C-NMC's folds 0 and 1, 810 pairs are found. All 51 between subjects, and all of 363 looked at within subjects (the
198 least sure among them), are the same cells to the eye: at most 7.0 % and 1.0 % false alarms (Clopper-Pearson, 95 %).
Of the next best 330 pairs between subjects, and of 119 candidates drawn at random, none is the same cell. Within
subjects, some 17 are missed: the outlines of one cell differ because a neighbor touches it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import scipy
from filelock import FileLock

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.data.images import read_image
from leukodash.data.views import VIEWS, view
from leukodash.errors import ImageError
from leukodash.progress import Progress

VERSION = 2  # increase it whenever the same images would give other pairs
SIDE = 80  # pixels of a patch
COVER = 1.25  # half the side of a patch, in radii of a disk of the cell's area
DARK = 8  # gray values up to this are the black around a cell
COARSE = 20  # pixels of a coarse patch, which covers the inner 0.8 radii
DIRECTIONS = 96  # of the whitened coarse patches
SHRINKAGE = 0.02  # of the largest variance, added to each, as the last directions are noise
FLAT = 1.5  # gray values: a coarse patch of less contrast shows nothing
ALIKE, MOST_ALIKE = 0.6, 20  # cosine of whitened coarse patches from which on a pair is aligned, and how many of a cell
SHIFT = 4  # pixels by which centers may be off, at half size
SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)  # of the second cell, for different masks
LEAST = 0.88  # correlation of whole patches below which a pair is not looked at further
# A pair counts from LIMIT on: correlation of texture, plus WEIGHT times that of the whole patch beyond OUTLINE (other
# cells of C-NMC reach 0.826). From TURN on, it is aligned again with a turn, which makes other cells more alike too (up
# to 0.898), so it counts from TURNED on.
LIMIT, WEIGHT, OUTLINE = 0.885, 5.0, 0.96
TURN, TURNED = 0.4, 0.93
BLOCK = 256  # cells that are compared with all others at once


class NearDuplicate(NamedTuple):
    """Two images of one cell.

    Attributes:
        first, second: positions of the images, first < second.
        similarity: correlation of their texture, -1 to 1.
    """

    first: int
    second: int
    similarity: float


def find_pairs(
    root: Path, files: Sequence[str], hashes: Sequence[str], progress: Progress | None = None
) -> list[NearDuplicate]:
    """Return all pairs of images that show the same cell, kept in the cache folder for the next time.

    Takes a minute for 10,000 cells on two cores. Images that cannot be read are in no pair.

    Args:
        root: the folder of the data set.
        files: paths below it, in any order.
        hashes: SHA-256 of each file. Of files with the same content, the first stands for all.
        progress: called with the fraction done, 0 to 1, and a text.
    """
    first, kept = _first_places(hashes), _kept(hashes)
    order = sorted(first)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without a cache, the pairs are found anew each time
            kept.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(kept.with_suffix(".lock")))
        if (pairs := known_pairs(hashes)) is not None:
            return pairs
        paths = [root / files[first[digest]] for digest in order]
        found = near_duplicates(len(order), lambda position: _image(paths[position]), progress)
        with contextlib.suppress(OSError):
            write_atomic(kept, json.dumps(found).encode(), durable=False)
    return _placed(found, hashes)


def known_pairs(hashes: Sequence[str]) -> list[NearDuplicate] | None:
    """Return the pairs among files of these SHA-256, or None if `find_pairs` has not looked for them here."""
    found = _read(_kept(hashes), len(set(hashes)))
    return None if found is None else _placed(found, hashes)


def _kept(hashes: Sequence[str]) -> Path:
    """Return where the pairs of these files are kept, by positions in the sorted hashes."""
    text = "\n".join([str(VERSION), *sorted(set(hashes))])
    return kept_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def kept_folder() -> Path:
    """Return the folder in which found pairs are kept."""
    return settings.cache() / "near_duplicates"


def _first_places(hashes: Sequence[str]) -> dict[str, int]:
    return {digest: position for position, digest in reversed(list(enumerate(hashes)))}


def _placed(found: list[NearDuplicate], hashes: Sequence[str]) -> list[NearDuplicate]:
    """Return pairs among the sorted hashes as pairs of the first files that have them."""
    first = _first_places(hashes)
    order = sorted(first)
    places = [(first[order[pair.first]], first[order[pair.second]], pair.similarity) for pair in found]
    return sorted(NearDuplicate(min(one, other), max(one, other), similarity) for one, other, similarity in places)


def picture_numbers(hashes: Sequence[str], pairs: Sequence[NearDuplicate]) -> np.ndarray:
    """Return a number for each image, int (N,), that is equal for images of the same cell."""
    first: dict[str, int] = {}
    same = [(position, first.setdefault(digest, position)) for position, digest in enumerate(hashes)]
    links = np.array([*same, *((pair.first, pair.second) for pair in pairs)]).reshape(-1, 2)
    graph = scipy.sparse.coo_matrix((np.ones(len(links)), links.T), shape=(len(hashes), len(hashes)))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def merged_subjects(subjects: Sequence[str], pictures: np.ndarray) -> list[str]:
    """Return the subject of each image, with all subjects who share a picture under one name, such as "20 = 21".

    They are one person: nobody else has this cell.

    Args:
        subjects: of each image, as the data set names them.
        pictures: from `picture_numbers`.
    """
    numbers, names = pd.factorize(np.asarray(subjects, dtype=object))
    links = np.array([numbers, len(names) + pictures])
    nodes = len(names) + len(pictures)
    graph = scipy.sparse.coo_matrix((np.ones(len(numbers)), links), shape=(nodes, nodes))
    people = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][: len(names)]
    merged = [" = ".join(sorted(names[people == person], key=natural)) for person in people]
    return [merged[number] for number in numbers]


def natural(subject: str) -> tuple:
    """Return a key that sorts subjects by their numbers: 2 before 10, both before H1."""
    return not subject[:1].isdigit(), [int(number[:18]) for number in re.findall(r"[0-9]+", subject)[:20]], subject


def near_duplicates(
    count: int, read: Callable[[int], np.ndarray | None], progress: Progress | None = None
) -> list[NearDuplicate]:
    """Return all pairs of images that show the same cell.

    Args:
        count: number of images.
        read: returns an image by its position, uint8 (H, W, 3), RGB, or None for one that cannot be read; called by
            several threads.
        progress: called with the fraction done, 0 to 1, and a text.
    """
    report = progress or (lambda fraction, words: None)
    if count < 2:
        return []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        patches = np.zeros((count, SIDE, SIDE), np.uint8)
        for number, patch in enumerate(pool.map(lambda position: _patch(read(position)), range(count))):
            patches[number] = patch
            if number % 64 == 0:
                report(0.5 * number / count, f"looking for near-duplicates: {number:,} of {count:,} cells")
        pairs = list(_alike(_whitened(_coarse(patches)), report))
        similarities = pool.map(lambda pair: _similarity(patches[pair[0]], _one_view(patches[pair[1]], pair[2])), pairs)
        return [
            NearDuplicate(first, second, similarity)
            for (first, second, _), similarity in zip(pairs, similarities, strict=True)
            if similarity is not None
        ]


def _read(kept: Path, count: int) -> list[NearDuplicate] | None:
    """Return the pairs among `count` images that were found before, or None."""
    try:
        pairs = [NearDuplicate(int(one), int(other), float(s)) for one, other, s in json.loads(kept.read_bytes())]
    except (OSError, ValueError, TypeError, IndexError):
        return None
    return pairs if all(0 <= pair.first < pair.second < count for pair in pairs) else None


def _image(path: Path) -> np.ndarray | None:
    try:
        return read_image(path)
    except ImageError:
        return None


def _patch(image: np.ndarray | None) -> np.ndarray:
    """Return a gray patch (SIDE, SIDE), uint8, with the cell at its center and of a fixed area.

    Images that are not on black are shown whole.
    """
    if image is None:
        return np.zeros((SIDE, SIDE), np.uint8)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    cell = gray > DARK
    area = int(cell.sum())
    y, x, radius = (height - 1) / 2, (width - 1) / 2, min(height, width) / 2 / COVER
    if 0.005 < area / gray.size < 0.9:
        y, x = cell.sum(1) @ np.arange(height) / area, cell.sum(0) @ np.arange(width) / area
        radius = np.sqrt(area / np.pi)
    scale = SIDE / (2 * COVER * radius)
    if scale < 1:  # smooth before shrinking
        gray = cv2.GaussianBlur(gray, (0, 0), 0.5 * np.sqrt(max(scale**-2 - 1, 1e-3)))
    middle = (SIDE - 1) / 2
    to_patch = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    return cv2.warpAffine(gray, to_patch, (SIDE, SIDE))


def _one_view(patch: np.ndarray, number: int) -> np.ndarray:
    return np.ascontiguousarray(view(patch[None, ..., None], number)[0, ..., 0])


def _coarse(patches: np.ndarray) -> np.ndarray:
    """Return all views of the inside of patches at coarse resolution, of mean 0 and about equal contrast: (n, 8, d)."""
    edge = round(SIDE / 2 * (1 - 0.8 / COVER))
    inside = patches[:, edge : SIDE - edge, edge : SIDE - edge]
    small = np.stack([cv2.resize(patch, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for patch in inside])
    views = np.stack([view(small[..., None], number) for number in VIEWS["views"]], axis=1)
    vectors = views.reshape(*views.shape[:2], -1).astype(np.float32)
    vectors -= vectors.mean(axis=2, keepdims=True)
    contrast = vectors.std(axis=2, keepdims=True)
    vectors[contrast[:, 0, 0] < FLAT] = 0
    return vectors / (contrast + 4)  # a few gray values: cells of little contrast have mostly noise


def _whitened(coarse: np.ndarray) -> np.ndarray:
    """Return coarse patches in principal directions of equal variance, each of length 1: float32 (n, 8, directions)."""
    mean = coarse.mean(axis=(0, 1))
    sample = coarse.reshape(-1, coarse.shape[2])[:: max(1, coarse.shape[0] * coarse.shape[1] // 12_000)] - mean
    variance, directions = np.linalg.eigh(sample.T @ sample / len(sample))
    variance, directions = variance[-DIRECTIONS:], directions[:, -DIRECTIONS:]
    white = (coarse - mean) @ (directions / np.sqrt(variance + SHRINKAGE * variance[-1] + 1e-9)).astype(np.float32)
    white[~coarse.any(axis=(1, 2))] = 0  # flat ones are like nothing
    return white / (np.linalg.norm(white, axis=2, keepdims=True) + 1e-9)


def _alike(white: np.ndarray, report: Callable[[float, str], None]) -> Iterator[tuple[int, int, int]]:
    """Yield the positions of cells whose coarse patches are alike, and the view of the second that is."""
    count = len(white)
    for start in range(0, count, BLOCK):
        report(0.5 + 0.3 * start / count, f"comparing {count:,} cells")
        others = white[start:].reshape(-1, white.shape[2])
        cosines = (white[start : start + BLOCK, 0] @ others.T).reshape(-1, count - start, white.shape[1])
        best = np.triu(cosines.max(axis=2), 1)
        for first, row in enumerate(best):
            most = np.argpartition(row, -MOST_ALIKE)[-MOST_ALIKE:] if len(row) > MOST_ALIKE else np.arange(len(row))
            for second in most[row[most] > ALIKE]:
                yield start + first, start + int(second), int(cosines[first, second].argmax())


def _similarity(first: np.ndarray, second: np.ndarray) -> float | None:
    """Align two patches; return the correlation of their texture if they show the same cell, or else None."""
    half = cv2.resize(first, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    smooth, small = cv2.blur(second, (2, 2)), SIDE // 2 + 2 * SHIFT
    windows = [(_scaled(smooth, scale / 2, small, 0, 0), scale) for scale in SCALES]
    correlation, scale, x, y = max(_best_place(half, window, scale, SHIFT) for window, scale in windows)
    if correlation < LEAST:
        return None
    places = []
    for fine in (scale - 0.02, scale, scale + 0.02):
        moved = _scaled(second, fine, SIDE + 4, 2 * x, 2 * y)
        correlation, _, dx, dy = _best_place(first, moved, fine, 2)
        places.append((correlation, fine, moved[2 + dy : 2 + dy + SIDE, 2 + dx : 2 + dx + SIDE]))
    outline, _, aligned = max(places, key=lambda place: place[0])
    score, similarity = _score(first, aligned, outline)
    if score >= LIMIT:
        return similarity
    if score >= TURN:
        turned = _turned(first, aligned)
        score, similarity = _score(first, turned, float(np.corrcoef(first.ravel(), turned.ravel())[0, 1]))
        if score >= TURNED:
            return similarity
    return None


def _score(first: np.ndarray, second: np.ndarray, outline: float) -> tuple[float, float]:
    """Return how sure it is that two aligned patches show one cell, and the correlation of their texture.

    `outline` is the correlation of the whole patches.
    """
    cells = [(patch > DARK).astype(np.uint8) for patch in (first, second)]
    inside = cv2.erode(cells[0] & cells[1], np.ones((5, 5), np.uint8)) > 0
    if inside.sum() < SIDE:
        return -1.0, -1.0
    textures = [_texture(patch, cell)[inside] for patch, cell in zip((first, second), cells, strict=True)]
    if min(texture.std() for texture in textures) < 1e-3:
        return -1.0, -1.0
    similarity = float(np.corrcoef(textures[0], textures[1])[0, 1])
    return similarity + WEIGHT * (outline - OUTLINE), similarity


def _turned(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the second patch, turned and moved a little to correlate with the first (Evangelidis & Psarakis 2008)."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 1e-4)
    try:
        turn = cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_EUCLIDEAN, stop)[1]
    except cv2.error:  # it does not converge
        return second
    return cv2.warpAffine(second, turn, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _scaled(patch: np.ndarray, scale: float, side: int, x: int, y: int) -> np.ndarray:
    """Return a patch, scaled about its center and moved by -x and -y pixels, in a square of `side` pixels."""
    offset = (side - 1) / 2 - (SIDE - 1) / 2 * scale
    return cv2.warpAffine(patch, np.array([[scale, 0, offset - x], [0, scale, offset - y]]), (side, side))


def _best_place(first: np.ndarray, second: np.ndarray, scale: float, shift: int) -> tuple[float, float, int, int]:
    """Return the highest correlation of the first patch with a window of the second, its scale, and where it is."""
    _, correlation, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(second, first, cv2.TM_CCOEFF_NORMED))
    return correlation, scale, x - shift, y - shift


def _texture(patch: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return a patch without noise and without what is common to 8 pixels around, computed within the cell."""
    fine = cv2.GaussianBlur(patch.astype(np.float32), (0, 0), 1)
    weight = cell.astype(np.float32)
    around = cv2.GaussianBlur(fine * weight, (0, 0), 8) / (cv2.GaussianBlur(weight, (0, 0), 8) + 1e-6)
    return fine - around
