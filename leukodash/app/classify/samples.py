"""Samples of the classify page: a wall of cells to click, two whole smears, and guesses made before the answer."""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash import settings
from leukodash.app.classify.picture_buttons import PictureButton, data_url, picture_buttons
from leukodash.app.common import CNMC_CREDIT, plain
from leukodash.app.picture_cache import kept
from leukodash.cam.localization import cell_mask
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image, square
from leukodash.errors import ImageError
from leukodash.figures.cell_pictures import brighten
from leukodash.inference.answer_summary import guess_words
from leukodash.inference.sample_cells import draw_samples, sample_cells
from leukodash.runs.run_cells import cell_identities
from leukodash.runs.run_folder import Run

SHOWN = 24  # cells on the wall
THUMBNAIL, LARGE = 96, 150  # pixels a side: on the wall, and while a guess is asked for
SKIP = "skip"
FOREIGN = (
    "The smears are of another laboratory and stain than the cells of C-NMC, so take their classes as a demonstration."
)
SMEARS = "BloodImage_00195.jpg", "BloodImage_00354.jpg"


class Samples(NamedTuple):
    """The chosen samples: files, cells before smears; label by position; and the visitor's guess by file."""

    files: list[Path]
    truth: dict[int, str]
    guesses: dict[str, str]


@st.cache_data(max_entries=32, ttl="1m", show_spinner="Looking for cells that these networks have not seen …")
def _cells(runs: tuple[str, ...]) -> tuple[pd.DataFrame, bool]:
    cells, unseen = sample_cells([Run(Path(path)) for path in runs])
    keys = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in cell_identities(cells)]
    return cells.assign(key=keys).drop_duplicates("key").set_index("key"), unseen


def thumbnail(path: Path, smear: bool = False) -> str | None:
    """Return a sample as a data URL; None if the file is gone or damaged.

    A cell is brightened, and cut out of the middle of its picture if that leaves nine tenths of it or more: all at the
    same scale, since size is evidence.
    """
    try:
        return kept(path, ("sample", smear), lambda: _drawn(path, smear))
    except (ImageError, OSError):
        return None


def _drawn(path: Path, smear: bool) -> str:
    image = read_image(path)
    if smear:
        return data_url(square(image, 2 * THUMBNAIL))
    image = square(image, max(image.shape[:2]))
    mask, edge = cell_mask(image), len(image) // 6
    if mask is not None and mask[edge:-edge, edge:-edge].sum() > 0.9 * mask.sum():
        image = image[edge:-edge, edge:-edge]
    return data_url(brighten(square(image, THUMBNAIL)))


def choose_samples(runs: list[Run], wall: DeltaGenerator, row: DeltaGenerator) -> Samples:
    """Show the wall, and its buttons in `row`; returns the chosen samples, newest first.

    A cell whose class is still to be guessed is shown here, and not among the chosen ones.
    """
    cells, unseen = _cells(tuple(str(run.path) for run in runs))
    smears = {Path(name).stem: settings.asset(f"smears/{name}") for name in SMEARS}
    paths: dict[str, Path] = smears | dict(zip(cells.index, cells["path"], strict=True))
    picked = [key for key in _picked() if key in paths]
    drawn = draw_samples(cells, SHOWN, st.session_state.get("draw", 0)).sort_index()  # by hash: no order of classes
    names = {key: f"Cell {number}" for number, key in enumerate(drawn.index, 1)}
    names |= {key: f"Smear {number}" for number, key in enumerate(smears, 1)}
    urls = {key: thumbnail(paths[key], key in smears) for key in names}
    buttons = [PictureButton(key, names[key], url, key in picked) for key, url in urls.items() if url]
    with wall:
        picture_buttons("Samples", buttons, _toggle, key="wall")
        st.caption(_words(drawn, len(runs), unseen))
        if any(key in smears for key in picked):
            st.caption(FOREIGN)
    with row:
        shown = [*dict.fromkeys([*picked, *drawn.index])]
        st.button(f"Classify all {len(drawn)}", icon=":material/select_all:", on_click=_pick, args=[shown])
        if len(cells) > len(drawn):
            st.button("Other cells", icon=":material/casino:", on_click=_draw_others)
        if picked:
            st.button("Clear", icon=":material/clear_all:", type="tertiary", on_click=_pick, args=[[]])
        guess = st.toggle(
            "Guess first", key="guess", bind="query-params",
            help="Say what you see before the networks do. Your right guesses are counted beside theirs.",
        )  # fmt: skip
    guesses: dict[str, str] = st.session_state.setdefault("guesses", {})
    chosen = [key for key in picked if key not in smears]
    if guess:
        waiting = [key for key in chosen if key not in guesses]
        _ask({key: paths[key] for key in waiting}, sorted(cells["label"].unique()))
        chosen = [key for key in chosen if key in guesses]
    made = {str(paths[key]): guesses[key] for key in chosen if guess and guesses[key] != SKIP}
    files = [paths[key] for key in [*chosen, *(key for key in picked if key in smears)]]
    return Samples(files, dict(enumerate(cells.loc[chosen, "label"])), made)


def guess_score(table: pd.DataFrame, samples: Samples, names: dict[str, str]) -> None:
    """Show how many of the guessed cells the visitor and each run got right."""
    if samples.guesses:
        truth = {str(samples.files[position]): label for position, label in samples.truth.items()}
        st.markdown(f":material/psychology_alt: {plain(guess_words(table, samples.guesses, truth, names))}")


def _ask(waiting: dict[str, Path], labels: list[str]) -> None:
    with st.container(horizontal=True):
        for key, path in waiting.items():
            with st.container(border=True, width=LARGE + 150):
                st.image(_large(path), width=LARGE, alt="The cell to guess")
                st.pills(
                    "Your guess?", [*labels, SKIP], key=f"guess-{key}", on_change=partial(_guess, key),
                    format_func=lambda label: SKIP if label == SKIP else plain(label_title(label)),
                )  # fmt: skip


def _large(path: Path) -> np.ndarray:
    return kept(path, "to guess", lambda: brighten(square(read_image(path), 2 * LARGE)))


def _words(drawn: pd.DataFrame, runs: int, unseen: bool) -> str:
    which = "this network" if runs == 1 else "these networks"
    words = f"{len(drawn)} cells that {which} never saw in training, and two whole smears."
    if not unseen:
        words = f"{len(drawn)} cells that {which} may have seen in training, and two whole smears."
    shipped = drawn["path"].map(lambda path: path.is_relative_to(settings.asset("cells"))).any()
    return f"{words} {f'{CNMC_CREDIT} ' if shipped else ''}Smears: BCCD, MIT."


def _picked() -> list[str]:
    """Return the chosen samples, newest first: those in the URL, or those before a visit to another page."""
    picked = st.query_params.get("cells", st.session_state.get("last-cells", ""))
    _pick(keys := [key for key in picked.split(",") if key])
    return keys


def _pick(keys: list[str]) -> None:
    st.session_state["last-cells"] = ",".join(keys)
    if keys:
        st.query_params["cells"] = ",".join(keys)
    else:
        st.query_params.pop("cells", None)


def _toggle(key: str) -> None:
    picked = _picked()
    _pick([other for other in picked if other != key] if key in picked else [key, *picked])


def _draw_others() -> None:
    st.session_state["draw"] = st.session_state.get("draw", 0) + 1


def _guess(key: str) -> None:
    if said := st.session_state[f"guess-{key}"]:
        st.session_state["guesses"][key] = said
