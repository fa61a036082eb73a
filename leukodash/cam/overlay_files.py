"""Heat maps drawn over cells, for the page and as files. Does not import Keras."""

import contextlib
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pandas as pd

from leukodash.atomic_write import replacing, write_atomic
from leukodash.data.images import Source, read_image, square
from leukodash.errors import RunError
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.heat_overlay import overlay
from leukodash.progress import Progress

SIZE = 320  # pixels a side of a written cell
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


@dataclass(frozen=True)
class OverlayStyle:
    """How a heat map is shown.

    Attributes:
        opacity: of the map over the cell, 0 to 1.
        colors: a key of `figures.heat_overlay.COLOR_MAPS`.
        bright: whether the cell is brightened for display (`figures.cell_pictures.brighten`).
        beside: whether the map is shown beside the cell rather than over it.
    """

    opacity: float = 0.5
    colors: str = "inferno"
    bright: bool = True
    beside: bool = False


def draw_over(
    cell: np.ndarray, heat: np.ndarray, style: OverlayStyle = OverlayStyle(), faded: bool = False
) -> np.ndarray:
    """Draw a heat map over its cell.

    Args:
        cell: uint8 (H, W, 3), RGB, already brightened if wanted.
        heat: float (h, w), 0 to 1.
        style: how to draw it; beside the cell the map is opaque.
        faded: draw in grey, for an answer that should not be trusted.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    drawn = overlay(cell, heat, 1.0 if style.beside else style.opacity, style.colors)
    return cv2.cvtColor(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) if faded else drawn


def write_overlays(
    target: Path | BinaryIO,
    files: Sequence[Source],
    table: pd.DataFrame,
    maps: Sequence[np.ndarray | None],
    style: OverlayStyle = OverlayStyle(),
    progress: Progress | None = None,
) -> None:
    """Write each heat map with its cell as a PNG file, ``<file>.<run>.png``, one at a time.

    Args:
        target: a folder, created if missing; or a ZIP: a path that ends in ``.zip``, or an open file.
        files, table, maps: what `classify_files.classify_files` took and returned.
        style: how to draw them; with `beside`, cell and map are side by side in one picture.

    Raises RunError if the target cannot be written.
    """
    pictures = _pictures(files, table, maps, style, progress)
    try:
        if isinstance(target, Path) and target.suffix.lower() != ".zip":
            target.mkdir(parents=True, exist_ok=True)
            for name, png in pictures:
                write_atomic(target / name, png, durable=False)
            return
        with contextlib.ExitStack() as stack:
            file: Path | BinaryIO = target
            if isinstance(target, Path):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(replacing(target, durable=False))
            archive = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))  # PNG is compressed already
            for name, png in pictures:
                archive.writestr(name, png)
    except OSError as error:
        raise RunError(
            f"The heat maps cannot be written to '{target}' ({error.strerror}). Name a folder of your own."
        ) from error


def overlays_zip(*args: Any, **options: Any) -> bytes:
    """Return what `write_overlays` writes as one ZIP file; takes its arguments except the target."""
    archive = io.BytesIO()
    write_overlays(archive, *args, **options)
    return archive.getvalue()


def _pictures(
    files: Sequence[Source],
    table: pd.DataFrame,
    maps: Sequence[np.ndarray | None],
    style: OverlayStyle,
    progress: Progress | None,
) -> Iterator[tuple[str, bytes]]:
    stems = _stems(files)
    shown, cell = None, np.empty(0)
    positions, runs, novel = table["position"], table["run"], table["novel"].astype(bool)
    for number, (position, run, faded, heat) in enumerate(zip(positions, runs, novel, maps, strict=True)):
        if progress:
            progress(number / len(maps), f"{number:,} of {len(maps):,} pictures")
        if heat is None:
            continue
        if position != shown:
            source = files[position]
            image = square(read_image(source if isinstance(source, Path) else source[1]), SIZE)
            shown, cell = position, brighten(image) if style.bright else image
        picture = draw_over(cell, heat, style, faded)
        picture = np.hstack([cell, picture]) if style.beside else picture
        yield f"{stems[position]}.{run}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def _stems(files: Sequence[Source]) -> list[str]:
    """Return a unique name for each picture, made from its file's name in characters that every file system accepts."""
    stems: list[str] = []
    used: set[str] = set()
    for file in files:
        name = (file if isinstance(file, Path) else Path(file[0].replace("\\", "/"))).name
        stem = name[: -len(Path(name).suffix)] if 1 < len(Path(name).suffix) <= 5 else name
        stem = re.sub(r"[^\w.-]+", "_", stem)[:80].encode()[:160].decode(errors="ignore").strip("._-") or "cell"
        stem = f"cell-{stem}" if stem.split(".")[0].lower() in RESERVED else stem
        number, numbered = 1, stem
        while numbered.lower() in used:  # some file systems ignore case
            number += 1
            numbered = f"{stem}-{number}"
        used.add(numbered.lower())
        stems.append(numbered)
    return stems
