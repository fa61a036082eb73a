"""Whole smears on the classify page: each is replaced by its white cells, which are counted at the end."""

import hashlib
from collections import Counter
from pathlib import Path

import cv2
import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.app.classify.box_editor import Smear, correct_smears, found_cells
from leukodash.app.common import plain, progress_bar
from leukodash.app.picture_cache import pictures_of
from leukodash.data.dataset import printable
from leukodash.data.images import Sample, Source, read_image
from leukodash.errors import ImageError
from leukodash.inference.smear_summary import cell_name, count_cells, smear_words
from leukodash.smears.detection import Box, cut_outs

MAX_CUT_PIXELS, MAX_PUBLIC_CUT_PIXELS = 64_000_000, 4_000_000  # of the cut-outs of all smears; 3 bytes each
NAME_LENGTH = 60  # leaves room for ", cell 12" in the 80 characters of a name that tables show


def cells_of_smears(files: list[Source], truth: dict[int, str]) -> tuple[list[Source], dict[int, str], list[str]]:
    """Show the smears among the files for correction, and replace each by its cells.

    Args:
        files: paths and uploads; those with a known label are single cells and stay unchanged.
        truth: label by position in `files`.

    Returns:
        The files with each smear replaced by its cells, PNGs named ``"<smear>, cell 3"``; `truth` by new
        position; the names of the smears.
    """
    smears = _smears([(at, file) for at, file in enumerate(files) if at not in truth])
    if not smears:
        return files, truth, []
    boxes = correct_smears(list(smears.values()))
    most_pixels = MAX_PUBLIC_CUT_PIXELS if settings.public() else MAX_CUT_PIXELS
    sources: list[Source] = []
    moved: dict[int, str] = {}
    names = []
    for at, file in enumerate(files):
        if at in truth:
            moved[len(sources)] = truth[at]
        smear = smears.get(at)
        if smear is None or (smear_boxes := boxes[smear.sha]) is None:
            sources.append(file)
        else:
            pngs = _cells(smear, smear_boxes, most_pixels // len(smears))
            cells = [(cell_name(smear.name, number), png) for number, png in enumerate(pngs, 1)]
            sources += map(Sample, cells) if isinstance(file, Path) else cells
            names.append(smear.name)
    return sources, moved, names


def smear_summary(table: pd.DataFrame, smears: list[str]) -> None:
    """Show the counts of the smears' cells: a line for one, a table for several."""
    counts = count_cells(table, smears)
    if len(counts) == 1:
        st.markdown(f"Smear {plain(smears[0])} · {plain(smear_words(counts))}")
    else:
        st.dataframe(counts, hide_index=True, width="content")


def _smears(files: list[tuple[int, Source]]) -> dict[int, Smear]:
    """Return the smears by position; shows a progress bar if it takes longer."""
    smears: dict[int, Smear] = {}
    names: Counter = Counter()
    bar = st.empty()
    progress = progress_bar(bar)
    for number, (at, file) in enumerate(files):
        progress(number / len(files), f"Looking for whole smears: {number:,} of {len(files):,} files")
        try:
            data = file.read_bytes() if isinstance(file, Path) else file[1]
            smear = Smear("", hashlib.sha256(data).hexdigest(), data, file)
            if found_cells(smear) is None:
                continue
        except (OSError, ImageError):  # reported with the other answers
            continue
        name = printable(file.name if isinstance(file, Path) else file[0])[-NAME_LENGTH:]
        names[name] += 1
        smears[at] = smear._replace(name=name if names[name] == 1 else f"{name} ({names[name]})")
    bar.empty()
    return smears


def _cells(smear: Smear, boxes: list[Box], most_pixels: int) -> list[bytes]:
    """Return the PNG of each box's cell on black."""

    def cut() -> list[bytes]:
        with st.spinner("Cutting out the cells …"):
            cells = cut_outs(read_image(smear.data), boxes, most_pixels)
            return [cv2.imencode(".png", cell[..., ::-1])[1].tobytes() for cell in cells]

    return pictures_of(smear.file).remember(("cut-outs", smear.sha, tuple(boxes), most_pixels), cut)
