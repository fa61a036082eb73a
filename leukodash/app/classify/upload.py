"""What comes in on the classify page: uploads, a folder, a ZIP, the camera, or cells that were kept from training."""

import time

import streamlit as st

from leukodash import settings
from leukodash.app.common import plain
from leukodash.data.archive import IMAGES, MAX_PUBLIC_UNPACKED_MB, MAX_UNPACKED_MB, Unpacked, safe_name, unpack
from leukodash.data.images import Source, has_more_frames
from leukodash.errors import ImageError
from leukodash.inference.sample_cells import draw_samples, unseen_cells
from leukodash.runs.run_folder import Run

SAMPLES = (4, 8, 16, 32)
FAULTS = 5  # sentences on bad files before the others wait behind a click


def choose_cells(runs: list[Run]) -> tuple[list[Source], dict[int, str]]:
    """Let the user bring images and draw samples; returns the files, and by position the labels that are known."""
    left, right = st.columns(2, gap="large")
    with left:
        uploads = _choose_uploads()
    with right:
        drawn = _choose_samples(runs)
    files: list[Source] = list(drawn["path"])
    own, faults, notes = _taken(uploads)
    for note in notes[:FAULTS]:
        st.warning(plain(note), icon=":material/filter_alt:")
    say_faults(faults)
    return [*files, *own], dict(enumerate(drawn["label"]))


def say_faults(faults: list[str]) -> None:
    """Show a sentence for each file that cannot be used; after a few, the others wait behind a click."""
    for sentence in faults[:FAULTS]:
        st.error(plain(sentence), icon=":material/broken_image:")
    if faults[FAULTS:]:
        with st.expander(f"{len(faults) - FAULTS:,} more files could not be read"):
            st.markdown("  \n".join(plain(sentence) for sentence in faults[FAULTS:]))


def _limits() -> tuple[int, int, int]:
    """Return how many images are taken at once, how many MB a file may have, and how many all of a ZIP."""
    if settings.public():
        return 50, 10, MAX_PUBLIC_UNPACKED_MB
    return 1000, settings.MAX_UPLOAD_MB, MAX_UNPACKED_MB


def _choose_uploads() -> list:
    """Return Streamlit's uploaded files: dropped, a folder's, or the camera's photograph."""
    megabytes = _limits()[1]
    uploads = st.file_uploader(
        "Your own cells: drop images, a folder or a ZIP here", [*IMAGES, "zip"], accept_multiple_files=True,
        max_upload_size=megabytes, key="uploads",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Choose a folder", icon=":material/folder_open:", type="tertiary"):
            uploads += st.file_uploader(
                "All images of a folder, and of those in it", list(IMAGES), accept_multiple_files="directory",
                max_upload_size=megabytes, key="folder",
            )  # fmt: skip
        # The browser asks for permission as soon as there is a camera on the page: only for those who want one.
        camera = st.toggle("Camera", key="camera", help="Photograph a cell, for example through the eyepiece.")
    photograph = st.camera_input("Photograph", key="photograph", label_visibility="collapsed") if camera else None
    return [*uploads, photograph] if photograph else uploads


def _choose_samples(runs: list[Run]):  # noqa: ANN202  (a DataFrame, as `draw_samples` returns)
    cells = unseen_cells(runs)
    seed = st.session_state.get("draw", 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.pills(
            "Or draw cells that these runs were tested on and never learnt from", SAMPLES, key="samples",
            bind="query-params", disabled=cells.empty,
        )  # fmt: skip
        if count and st.button("Draw others", icon=":material/casino:"):
            seed = st.session_state["draw"] = seed + 1
    if cells.empty:
        st.caption("None of the cells that these runs were tested on is here. Choose other runs, or upload cells.")
    return draw_samples(cells, count or 0, seed)


def _taken(uploads: list) -> Unpacked:
    """Return every image that came, those in ZIPs too; unpacked once, and kept until the session's uploads change."""
    asked = [file.file_id for file in uploads]
    if st.session_state.get("unpacked", (None,))[0] != asked:
        st.session_state["unpacked"] = asked, _unpack_all(uploads)
    return st.session_state["unpacked"][1]


def _unpack_all(uploads: list) -> Unpacked:
    most, megabytes, unpacked = _limits()
    room = unpacked * 10**6
    bar, since = st.empty(), time.monotonic()

    def progress(fraction: float, words: str) -> None:
        if time.monotonic() - since > 0.5:  # a small ZIP needs no bar that flickers
            bar.progress(fraction, plain(words))

    files, faults, notes = taken = Unpacked([], [], [])
    for number, file in enumerate(uploads):
        if len(files) >= most:
            came = len(files) + len(uploads) - number
            notes.append(f"{came:,} files came and {most:,} are taken at once: the rest is left out.")
            break
        if not file.name.lower().endswith(".zip"):
            files.append((safe_name(file.name), file.getvalue()))
            continue
        try:
            some = unpack(file.getvalue(), file.name, most - len(files), room, megabytes * 10**6, progress)
        except ImageError as error:
            faults.append(str(error))
            continue
        for mine, its in zip(taken, some, strict=True):
            mine.extend(its)
        room -= sum(len(data) for _, data in some.files)
    bar.empty()
    notes += [f"'{name}' holds several pictures: the first is taken." for name, data in files if has_more_frames(data)]
    return taken
