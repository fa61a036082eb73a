"""Input of the classify page: uploads, a folder, a ZIP, the camera, or held-out sample cells."""

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from leukodash import settings
from leukodash.app.common import plain, progress_bar
from leukodash.data.archive import IMAGES, MAX_PUBLIC_UNPACKED_MB, MAX_UNPACKED_MB, Unpacked, safe_name, unpack
from leukodash.data.images import Source, has_more_frames
from leukodash.errors import ImageError
from leukodash.inference.sample_cells import draw_samples, unseen_cells
from leukodash.runs.run_folder import Run

SAMPLES = (4, 8, 16, 32)
ERRORS_SHOWN = 5  # error messages before the others go into an expander


def choose_cells(runs: list[Run]) -> tuple[list[Source], dict[int, str]]:
    """Let the user upload images and draw samples; returns the files, and the known labels by position."""
    left, right = st.columns(2, gap="large")
    with left:
        uploads = _choose_uploads()
    with right:
        drawn = _choose_samples(runs)
    files: list[Source] = list(drawn["path"])
    own, errors, notes = _unpacked(uploads)
    for note in notes[:ERRORS_SHOWN]:
        st.warning(plain(note), icon=":material/filter_alt:")
    show_errors(errors)
    return [*files, *own], dict(enumerate(drawn["label"]))


def show_errors(errors: list[str]) -> None:
    """Show the error message of each file that cannot be used, the first ones directly and the rest in an expander."""
    for message in errors[:ERRORS_SHOWN]:
        st.error(plain(message), icon=":material/broken_image:")
    if errors[ERRORS_SHOWN:]:
        with st.expander(f"{len(errors) - ERRORS_SHOWN:,} more files could not be read"):
            st.markdown("  \n".join(plain(message) for message in errors[ERRORS_SHOWN:]))


def _limits() -> tuple[int, int, int]:
    """Return the maximum number of images, the maximum size of a file in MB, and that of an unpacked ZIP."""
    if settings.public():
        return 50, 10, MAX_PUBLIC_UNPACKED_MB
    return 1000, settings.MAX_UPLOAD_MB, MAX_UNPACKED_MB


def _choose_uploads() -> list[UploadedFile]:
    """Return the uploaded files: images, ZIPs, a folder, or a photo from the camera."""
    megabytes = _limits()[1]
    uploads = st.file_uploader(
        "Your own cells: drop images, a folder or a ZIP here", [*IMAGES, "zip"], accept_multiple_files=True,
        max_upload_size=megabytes, key="uploads",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Choose a folder", icon=":material/folder_open:", type="tertiary"):
            uploads += st.file_uploader(
                "All images in a folder and its subfolders", list(IMAGES), accept_multiple_files="directory",
                max_upload_size=megabytes, key="folder",
            )  # fmt: skip
        # The browser asks for permission as soon as the camera is on the page, so it is optional.
        camera = st.toggle("Camera", key="camera", help="Take a photo of a cell, for example through the eyepiece.")
    photo = st.camera_input("Photo", key="photograph", label_visibility="collapsed") if camera else None
    return [*uploads, photo] if photo else uploads


def _choose_samples(runs: list[Run]) -> pd.DataFrame:
    cells = unseen_cells(runs)
    seed = st.session_state.get("draw", 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.pills(
            "Or draw cells that these runs were tested on but not trained on", SAMPLES, key="samples",
            bind="query-params", disabled=cells.empty,
        )  # fmt: skip
        if count and st.button("Draw others", icon=":material/casino:"):
            seed = st.session_state["draw"] = seed + 1
    if cells.empty:
        st.caption("The test cells of these runs are not on this machine. Choose other runs, or upload cells.")
    return draw_samples(cells, count or 0, seed)


def _unpacked(uploads: list[UploadedFile]) -> Unpacked:
    """Return all uploaded images, including those in ZIPs; cached in the session until the uploads change."""
    ids = [file.file_id for file in uploads]
    if st.session_state.get("unpacked", (None,))[0] != ids:
        st.session_state["unpacked"] = ids, _unpack_all(uploads)
    return st.session_state["unpacked"][1]


def _unpack_all(uploads: list[UploadedFile]) -> Unpacked:
    max_files, megabytes, unpacked = _limits()
    bytes_left = unpacked * 10**6
    bar = st.empty()
    progress = progress_bar(bar)
    files, errors, notes = result = Unpacked([], [], [])
    for number, file in enumerate(uploads):
        if len(files) >= max_files:
            total = len(files) + len(uploads) - number
            notes.append(f"{total:,} files were uploaded, but the limit is {max_files:,}: the rest is ignored.")
            break
        if not file.name.lower().endswith(".zip"):
            files.append((safe_name(file.name), file.getvalue()))
            continue
        limits = max_files - len(files), bytes_left, megabytes * 10**6
        try:
            content = unpack(file.getvalue(), file.name, *limits, progress)
        except ImageError as error:
            errors.append(str(error))
            continue
        files += content.files
        errors += content.faults
        notes += content.left_out
        bytes_left -= sum(len(data) for _, data in content.files)
    bar.empty()
    several = [name for name, data in files if has_more_frames(data)]
    notes += [f"'{name}' contains several images: only the first is used." for name in several]
    return result
