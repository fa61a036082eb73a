"""The white cells of smears in boxes on the picture, corrected by hand: drag to add one, click to leave one out."""

from functools import partial
from typing import NamedTuple

import streamlit as st

from leukodash.app.common import plain
from leukodash.data.images import read_image
from leukodash.figures.smear_boxes import drawn_box, smear_figure, smear_jpeg
from leukodash.figures.theme import alt_text
from leukodash.smears.detection import Box, find_white_cells, looks_like_smear

WAYS = {
    "add": ":material/add_box: Drag to add",
    "leave": ":material/disabled_by_default: Click to leave out",
}


class Smear(NamedTuple):
    """An uploaded smear: its name on this page, the SHA-256 of its bytes, and the bytes."""

    name: str
    sha: str
    data: bytes


def correct_smears(smears: list[Smear]) -> dict[str, list[Box] | None]:
    """Show one smear at a time with its boxes; returns the boxes by SHA-256, None for what is taken as one cell."""
    with st.container(border=True):
        head = st.container()
        shown = smears[0]
        if len(smears) > 1:
            place = st.selectbox(
                "Smear shown", range(len(smears)), key="smear-shown",
                format_func=lambda at: f"{smears[at].name} · {len(found_cells(smears[at].sha, smears[at].data))} found",
            )  # fmt: skip
            shown = smears[place]
        _editor(shown)
        boxes = {smear.sha: _boxes(smear) for smear in smears}
        cells = sum(len(boxes[smear.sha] or []) for smear in smears)
        many = "A whole smear" if len(smears) == 1 else f"{len(smears)} whole smears"
        head.markdown(
            f"**{many} with {cells:,} white cell{'' if cells == 1 else 's'}.** Each is classified on its own. "
            "Drag a box around a cell that was missed; click on the number of what is none."
        )
    return boxes


def _editor(smear: Smear) -> None:
    state, mark = _corrections(smear.sha), smear.sha[:16]
    picture, width, height = _picture(smear.sha, smear.data)
    boxes = _boxes(smear)
    with st.container(horizontal=True, vertical_alignment="center"):
        way = st.segmented_control(
            "Correct", list(WAYS), default="add", required=True, format_func=WAYS.get, key="smear-way",
            label_visibility="collapsed", disabled=boxes is None,
        )  # fmt: skip
        st.button(
            "Back to what was found", icon=":material/undo:", key=f"reset-{mark}", type="tertiary",
            on_click=partial(_keep, smear.sha, None), disabled=state["boxes"] is None or boxes is None,
        )  # fmt: skip
        st.toggle(
            "No smear: take it as one cell", state["whole"], key=f"whole-{mark}", on_change=partial(_turn, smear.sha)
        )
    figure = smear_figure(picture, width, height, boxes or [], plain(smear.name), drag=way == "add")
    key = f"smear-{mark}-{state['edits']}-{way}"  # a new chart after each correction: nothing is selected in it
    st.plotly_chart(
        figure, key=key, config={"displayModeBar": False}, alt=alt_text(figure),
        selection_mode="box" if way == "add" else "points",
        on_select="ignore" if boxes is None else partial(_correct, smear.sha, key, (width, height), boxes),
    )  # fmt: skip


@st.cache_data(max_entries=20_000, show_spinner=False)
def found_cells(sha: str, _data: bytes) -> list[Box] | None:
    """Return the white cells that are found in an image, None where it is no smear. Raises ImageError."""
    image = read_image(_data)
    return find_white_cells(image) if looks_like_smear(image) else None


@st.cache_data(max_entries=50, show_spinner=False)
def _picture(sha: str, _data: bytes) -> tuple[str, int, int]:
    """Return a picture for the page, and the smear's width and height."""
    image = read_image(_data)
    return smear_jpeg(image), image.shape[1], image.shape[0]


def _corrections(sha: str) -> dict:
    """Return what this session made of a smear: its boxes (None: as found), whether it is one cell, and how often."""
    return st.session_state.setdefault("smears", {}).setdefault(sha, {"boxes": None, "whole": False, "edits": 0})


def _boxes(smear: Smear) -> list[Box] | None:
    state = _corrections(smear.sha)
    if state["whole"]:
        return None
    return found_cells(smear.sha, smear.data) if state["boxes"] is None else state["boxes"]


def _correct(sha: str, key: str, size: tuple[int, int], boxes: list[Box]) -> None:
    """Answer a dragged box with a new cell, a click on a number by removing its cell."""
    selection = st.session_state[key].selection
    if selection["box"]:
        drawn = drawn_box(selection["box"][0], *size)
        _keep(sha, [*boxes, Box(*drawn)] if drawn else boxes)
    elif selection["points"]:
        gone = {point["point_index"] for point in selection["points"]}
        _keep(sha, [box for number, box in enumerate(boxes) if number not in gone])


def _keep(sha: str, boxes: list[Box] | None) -> None:
    state = _corrections(sha)
    state["boxes"], state["edits"] = boxes, state["edits"] + 1


def _turn(sha: str) -> None:
    state = _corrections(sha)
    state["whole"], state["edits"] = not state["whole"], state["edits"] + 1
