"""Editor for the white cells of a smear: boxes on the image, drag to add one, click to remove one."""

from functools import partial
from typing import NamedTuple

import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.app.picture_cache import pictures_of
from leukodash.data.images import Source, read_image
from leukodash.figures.smear_boxes import drawn_box, smear_figure, smear_jpeg
from leukodash.figures.theme import alt_text
from leukodash.smears.detection import MAX_CELLS, Box, find_white_cells, looks_like_smear

PHONE = 326  # pixels, width of the chart on a phone
MODES = {"add": ":material/add_box: Drag to add", "remove": ":material/disabled_by_default: Click to remove"}


class Smear(NamedTuple):
    """A smear: its display name, the SHA-256 of its bytes, the bytes, and the file."""

    name: str
    sha: str
    data: bytes
    file: Source


def correct_smears(smears: list[Smear]) -> dict[str, list[Box] | None]:
    """Show one smear at a time with its boxes; returns the boxes by SHA-256, None for a smear used as one cell."""
    with st.container(border=True):
        head = st.container()
        shown = smears[0]
        if len(smears) > 1:
            names = [f"{smear.name} · {len(found_cells(smear) or [])} found" for smear in smears]
            place = st.selectbox(
                "Smear shown", list(range(len(names))), key="smear-shown", format_func=names.__getitem__
            )
            shown = smears[place]
        _editor(shown)
        boxes = {smear.sha: _boxes(smear) for smear in smears}
        cells = sum(len(boxes[smear.sha] or []) for smear in smears)
        many = "A whole smear" if len(smears) == 1 else f"{len(smears)} whole smears"
        head.markdown(
            f"**{many} with {cells:,} white cell{'' if cells == 1 else 's'}.** Each is classified separately. "
            "Drag a box around a missed cell; click on the number of a box to remove it."
        )
        if any(len(boxes[smear.sha] or []) >= MAX_CELLS for smear in smears):
            head.warning(f"A smear can have {MAX_CELLS} cells here. Crop it for the others.", icon=":material/crop:")
    return boxes


def _editor(smear: Smear) -> None:
    state, mark = _corrections(smear.sha), smear.sha[:16]
    picture, width, height = _picture(smear)
    boxes = _boxes(smear)
    with st.container(horizontal=True, vertical_alignment="center"):
        mode = choose_one("Correct", MODES, "smear-way", label_visibility="collapsed", disabled=boxes is None)
        st.button(
            "Reset boxes", icon=":material/undo:", key=f"reset-{mark}", type="tertiary",
            on_click=partial(_keep, smear.sha, None), disabled=state["boxes"] is None or boxes is None,
        )  # fmt: skip
        st.toggle(
            "Not a smear: use it as one cell", state["whole"], key=f"whole-{mark}",
            on_change=partial(_toggle, smear.sha),
        )  # fmt: skip
    phone = PHONE if "Mobi" in st.context.headers.get("User-Agent", "") else None
    figure = smear_figure(picture, width, height, boxes or [], plain(smear.name), mode == "add", phone)
    key = f"smear-{mark}-{state['edits']}-{mode}"  # a new chart after each correction, without a selection
    st.plotly_chart(
        figure, key=key, config={"displayModeBar": False}, alt=alt_text(figure),
        selection_mode="box" if mode == "add" else "points",
        on_select="ignore" if boxes is None else partial(_correct, smear.sha, key, (width, height), boxes),
    )  # fmt: skip


def found_cells(smear: Smear) -> list[Box] | None:
    """Return the white cells detected in an image, None if it is not a smear. Raises ImageError."""

    def find() -> list[Box] | None:
        image = read_image(smear.data)
        return find_white_cells(image) if looks_like_smear(image) else None

    return pictures_of(smear.file).remember(("cells of a smear", smear.sha), find)


def _picture(smear: Smear) -> tuple[str, int, int]:
    """Return a JPEG for the page, and the smear's width and height."""

    def draw() -> tuple[str, int, int]:
        image = read_image(smear.data)
        return smear_jpeg(image), image.shape[1], image.shape[0]

    return pictures_of(smear.file).remember(("smear", smear.sha), draw)


def _corrections(sha: str) -> dict:
    """Return this session's edits of a smear: boxes (None: as detected), whether it is one cell, number of edits."""
    return st.session_state.setdefault("smears", {}).setdefault(sha, {"boxes": None, "whole": False, "edits": 0})


def _boxes(smear: Smear) -> list[Box] | None:
    state = _corrections(smear.sha)
    if state["whole"]:
        return None
    return found_cells(smear) if state["boxes"] is None else state["boxes"]


def _correct(sha: str, key: str, size: tuple[int, int], boxes: list[Box]) -> None:
    """Add a cell for a dragged box; remove the cell whose number was clicked."""
    selection = st.session_state[key].selection
    if selection["box"]:
        drawn = drawn_box(selection["box"][0], *size)
        _keep(sha, [*boxes, Box(*drawn)][:MAX_CELLS] if drawn else boxes)
    elif selection["points"]:
        removed = {point["point_index"] for point in selection["points"]}
        _keep(sha, [box for number, box in enumerate(boxes) if number not in removed])


def _keep(sha: str, boxes: list[Box] | None) -> None:
    state = _corrections(sha)
    state["boxes"], state["edits"] = boxes, state["edits"] + 1


def _toggle(sha: str) -> None:
    state = _corrections(sha)
    state["whole"], state["edits"] = not state["whole"], state["edits"] + 1
