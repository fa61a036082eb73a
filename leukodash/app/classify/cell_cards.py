"""Cards of the classify page: a cell, and beside it the class and heat map of each run."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.common import plain
from leukodash.app.picture_cache import data_of, kept
from leukodash.cam.localization import HeatPlace, heat_place
from leukodash.cam.overlay_files import draw_over
from leukodash.data.dataset import label_title
from leukodash.data.images import Source, read_image, square
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.heat_overlay import color_bar
from leukodash.inference.answer_summary import disagreements, percent
from leukodash.inference.decision import AVERAGE, novel_positions
from leukodash.inference.map_words import heat_words, score_words, share_words

DECODED = 300  # pixels a side, for the full-screen view
GIVEN = "as the networks give them, as on the compare page."
SHOWN = {1: 150, 2: 150, 3: 116, 4: 116}  # pixels a side by the number of runs, so that whole cards fill a row


def picture(file: Source) -> tuple[np.ndarray, str]:
    """Return an image padded to a square, uint8 (DECODED, DECODED, 3), and its original size as text."""

    def decode() -> tuple[np.ndarray, str]:
        image = read_image(data_of(file))
        return square(image, DECODED), f"{image.shape[1]} × {image.shape[0]} pixels"

    return kept(file, ("picture", DECODED), decode)


def place_of_heat(file: Source, heat: np.ndarray) -> HeatPlace:
    """Return `localization.heat_place`, computed once for each map."""
    which = hashlib.sha256(heat.tobytes()).hexdigest()
    return kept(file, ("place of heat", which), lambda: heat_place(read_image(data_of(file)), heat))


def heat_legend(chosen: Settings, table: pd.DataFrame, names: dict[str, str]) -> None:
    """Show what the colors of the heat maps mean, how much of the scores they show, and which probabilities are shown.

    Args:
        chosen: the settings of the page.
        table: the answers.
        names: title of each run, by its id.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", width="content"):
        st.caption("Heat: no evidence", width="content")
        st.image(color_bar(chosen.style.colors), width=120, alt="Colors from no evidence to the strongest evidence")
        st.caption("strongest. *On cell*: the share of the heat on the cell itself.", width="content")
    shares = [share_words(table[table["run"] == run], plain(name)) for run, name in names.items()]
    kind = "calibrated where that helps new subjects: see *Decision*." if chosen.calibrated else GIVEN
    st.caption("  \n".join([f"Probabilities: {kind}", *filter(None, shares)]), width="content")


def cards(
    positions: list[int],
    files: list[Source],
    table: pd.DataFrame,
    maps: list,
    truth: dict[int, str],
    names: dict[str, str],
    chosen: Settings,
) -> None:
    """Show a card for each of these cells."""
    apart, odd = disagreements(table), novel_positions(table)
    by_position = dict(list(table.groupby("position")))
    side = SHOWN[len(names)]
    with st.container(horizontal=True):
        for position in positions:
            rows, file = by_position[position], files[position]
            image, size = picture(file)
            name = Path(rows["file"].iloc[0]).name if isinstance(file, Path) else rows["file"].iloc[0]
            image = brighten(image) if chosen.style.bright else image
            known = truth.get(position)
            places = {}
            with st.container(border=True, width=(side + 16) * (len(names) + 1) + 20, gap="xsmall"):
                st.markdown(f":small[{plain(name)}] {_marks(known, position in apart, position in odd)}")
                with st.container(horizontal=True):
                    with st.container(width=side, gap="xsmall"):
                        st.image(image, width=side, alt=f"Cell {name}")
                        st.caption(size)
                        for _, row in rows[rows["run"] == AVERAGE].iterrows():
                            _answer(row, "Average", known, chosen.calibrated, bar=False)
                    answers = rows[rows["run"] != AVERAGE]
                    for number, (_, row) in zip(answers.index, answers.iterrows(), strict=True):
                        with st.container(width=side, gap="xsmall"):
                            label = label_title(chosen.target or row["class"])
                            heat, title = maps[number], names[row["run"]]
                            drawn = draw_over(image, heat, chosen.style, row["novel"])
                            st.image(drawn, width=side, alt=f"Heat map of {title}: evidence for {label}")
                            _answer(row, title, known, chosen.calibrated, bar=len(names) == 1)
                            if not heat.any():
                                st.markdown(f":small[no evidence for {plain(label)}]")
                            elif not np.isnan((place := place_of_heat(file, heat)).share):
                                st.markdown(_place_words(place))
                                if not row["novel"]:
                                    places[title] = place
                            if shown := score_words(row["score"], row["score_shown"]):
                                st.markdown(f":small[:gray[{shown}]]")
                if words := heat_words(places):
                    st.markdown(f":small[{plain(words)}]")


def _place_words(place: HeatPlace) -> str:
    kind, icon = ("gray", "center_focus_strong") if place.share >= 0.5 and place.peak_on_cell else ("orange", "warning")
    return f":{kind}-badge[:material/{icon}: {percent(place.share)} on cell]"


def _marks(truth: str | None, apart: bool, odd: bool) -> str:
    known = f":gray-badge[truth: {plain(label_title(truth))}]" if truth else ""
    mark = ":orange-badge[:material/call_split: runs disagree]" if apart else ""
    return f"{known} {mark} {':orange-badge[:material/help: unlike the training cells]' if odd else ''}"


def _answer(row: pd.Series, title: str, truth: str | None, calibrated: bool, bar: bool) -> None:
    """Show the answer of one run, or of the average, for one cell: with a bar, or in small type.

    Of more than two classes, the probability of each is shown.
    """
    predicted = plain(label_title(row["class"]))
    if row["novel"]:
        st.markdown(f":small[:gray[{plain(title)}]]  \n:gray[{predicted}?]")  # a probability would suggest certainty
        if row["run"] != AVERAGE:
            st.caption("Unlike all training cells: this class is meaningless.")
        return
    prefix = "calibrated_" if calibrated or row["run"] == AVERAGE else "p_"
    columns = {str(name): share for name, share in row.items()}
    odds = {name.removeprefix(prefix): share for name, share in columns.items() if name.startswith(prefix)}
    odds = {label: share for label, share in odds.items() if pd.notna(share)}
    share = odds[row["class"]]
    right = truth == row["class"]
    mark = "" if truth is None else ":green[:material/check:]" if right else ":red[:material/close:]"
    words = f"**{predicted}** {percent(share)} {mark}"
    st.markdown(f":small[{plain(title)}]  \n{words if bar else f':small[{words}]'}")
    for label, part in odds.items() if len(odds) > 2 else [(row["class"], share)] * bar:
        st.progress(min(1.0, part), f"{plain(label_title(label))} {percent(part)}" if len(odds) > 2 else None)
