"""The visitor's own cells on the classify page: uploads, a folder, a ZIP, or the camera."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from leukodash.app.common import plain, progress_bar
from leukodash.app.upload_limits import MB, admitted, forget, hold, limits, room
from leukodash.data.archive import IMAGES, MAX_UNPACKED_MB, Unpacked, safe_name, unpack
from leukodash.data.images import Source, has_more_frames
from leukodash.errors import ImageError

EARLIER = "before"  # files that were uploaded before the widgets were gone
ERRORS_SHOWN = 5  # error messages before the others go into an expander


def own_cells(row: DeltaGenerator) -> tuple[list[Source], Unpacked]:
    """Let the user upload images, at a switch in `row`; returns them, and what is to be said about the others.

    Files outlive the widgets, which are gone on another page or at the switch: in this session and in memory only.
    """
    kept: dict[str, list[UploadedFile]] = st.session_state.setdefault("kept-files", {EARLIER: []})
    for key in [key for key in kept if key != EARLIER and key not in st.session_state]:
        kept[EARLIER] += kept.pop(key)
    if row.toggle(
        "Your own cells", key="own", bind="query-params", help="Upload images, a ZIP or a folder, or take a photo."
    ):
        with st.container(border=True):
            _choose_uploads(kept)
    unpacked = _unpacked([file for files in kept.values() for file in files])
    dropped = st.session_state.get("dropped-uploads", [])
    return list(unpacked.files), unpacked._replace(left_out=[*dropped, *unpacked.left_out])


def show_upload_notes(unpacked: Unpacked) -> None:
    """Show which uploads were left out and which could not be used."""
    for note in unpacked.left_out[:ERRORS_SHOWN]:
        st.warning(plain(note), icon=":material/filter_alt:")
    show_errors(unpacked.faults)


def show_errors(errors: list[str]) -> None:
    """Show the error message of each file that cannot be used, the first ones directly and the rest in an expander."""
    for message in errors[:ERRORS_SHOWN]:
        st.error(plain(message), icon=":material/broken_image:")
    if errors[ERRORS_SHOWN:]:
        with st.expander(f"{len(errors) - ERRORS_SHOWN:,} more files could not be read"):
            st.markdown("  \n".join(plain(message) for message in errors[ERRORS_SHOWN:]))


def _choose_uploads(kept: dict[str, list[UploadedFile]]) -> None:
    """Show the widgets for images, ZIPs, a folder or a photo from the camera."""
    megabytes = limits().file_mb
    left, right = st.columns([2, 1])
    left.file_uploader(
        "Drop images or ZIPs here", [*IMAGES, "zip"], accept_multiple_files=True, max_upload_size=megabytes,
        key="uploads", on_change=_keep, args=["uploads"],
    )  # fmt: skip
    with right.expander("A folder"):
        st.file_uploader(
            "All images in a folder and its subfolders", list(IMAGES), accept_multiple_files="directory",
            max_upload_size=megabytes, key="folder", on_change=_keep, args=["folder"],
        )  # fmt: skip
    # The browser asks for permission as soon as the camera is on the page, so it is optional.
    if right.toggle("Camera", key="camera", help="Take a photo of a cell, for example through the eyepiece."):
        left.camera_input("Photo", key="photograph", label_visibility="collapsed", on_change=_keep, args=["photograph"])
    if count := len(kept[EARLIER]):
        words = f"Remove the {f'{count:,} files' if count > 1 else 'file'} from before"
        right.button(words, icon=":material/delete:", on_click=_remove_earlier)


def _keep(key: str) -> None:
    """Keep the files of a widget that are within the limits."""
    value = st.session_state[key] or []
    chosen = [file for file in (value if isinstance(value, list) else [value]) if isinstance(file, UploadedFile)]
    kept: dict[str, list[UploadedFile]] = st.session_state["kept-files"]
    others = [file for other, files in kept.items() if other != key for file in files]
    kept[key], st.session_state["dropped-uploads"] = admitted(chosen, others)


def _remove_earlier() -> None:
    forget(st.session_state["kept-files"][EARLIER])
    st.session_state["kept-files"][EARLIER] = []


def _unpacked(uploads: list[UploadedFile]) -> Unpacked:
    """Return all uploaded images, including those in ZIPs; cached in the session until the uploads change."""
    ids = [file.file_id for file in uploads]
    if st.session_state.get("unpacked", (None,))[0] != ids:
        st.session_state["unpacked"] = ids, _unpack_all(uploads)
    return st.session_state["unpacked"][1]


def _unpack_all(uploads: list[UploadedFile]) -> Unpacked:
    most = limits()
    hold(sum(file.size for file in uploads))
    bytes_left = min(MAX_UNPACKED_MB * MB, room())
    bar = st.empty()
    progress = progress_bar(bar)
    files, errors, notes = result = Unpacked([], [], [])
    for number, file in enumerate(uploads):
        if len(files) >= most.files:
            total = len(files) + len(uploads) - number
            notes.append(f"{total:,} files were uploaded, but the limit is {most.files:,}: the rest is ignored.")
            break
        if not file.name.lower().endswith(".zip"):
            files.append((safe_name(file.name), file.getvalue()))
            continue
        rest = most.files - len(files), bytes_left, most.file_mb * MB
        try:
            content = unpack(file.getvalue(), file.name, *rest, progress)
        except ImageError as error:
            errors.append(str(error))
            continue
        files += content.files
        errors += content.faults
        notes += content.left_out
        bytes_left -= sum(len(data) for _, data in content.files)
    hold(sum(file.size for file in uploads) + sum(len(data) for _, data in files))
    bar.empty()
    several = [name for name, data in files if has_more_frames(data)]
    notes += [f"'{name}' contains several images: only the first is used." for name in several]
    return result
