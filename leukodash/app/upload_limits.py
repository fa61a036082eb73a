"""Limits on uploads that hold whatever a browser sends: what is over them is dropped, and its memory is freed."""

import weakref
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from streamlit import config, runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec

from leukodash import settings
from leukodash.data.dataset import printable

MB = 2**20
ALL_VISITORS_MB = 300  # in a public demo: of the files of all visitors together, and again of what they hold unpacked
TIMES = 2  # more than the pages use, since a page sees a file only when it has arrived


class Limits(NamedTuple):
    """Of one visitor: the number of files, the size of one, and that of all, packed and again unpacked."""

    files: int
    file_mb: int
    all_mb: int


def limits() -> Limits:
    """Return the limits that apply here."""
    return (
        Limits(50, settings.MAX_PUBLIC_UPLOAD_MB, 30)
        if settings.public()
        else Limits(1000, settings.MAX_UPLOAD_MB, 1000)
    )


def admitted(
    files: Sequence[UploadedFile], others: Sequence[UploadedFile] = ()
) -> tuple[list[UploadedFile], list[str]]:
    """Return the first files that are within the limits, and a sentence on each reason to drop the rest.

    Args:
        files: those of one widget.
        others: those of the visitor's other widgets, which count as well.
    """
    most, kept, large, over = limits(), list[UploadedFile](), list[UploadedFile](), list[UploadedFile]()
    bytes_left = room() - sum(file.size for file in others)
    for file in files:
        if file.size > most.file_mb * MB:
            large.append(file)
        elif file.size > bytes_left or len(others) + len(kept) >= most.files:
            over.append(file)
        else:
            kept.append(file)
            bytes_left -= file.size
    forget([*large, *over])
    sentences = []
    if large:
        more = f" and {len(large) - 1:,} more" if large[1:] else ""
        sentences.append(
            f"'{printable(large[0].name)}'{more} is over the limit of {most.file_mb} MB and was not kept: shrink it."
        )
    if over:
        total = len(files) + len(others)
        sentences.append(
            f"{total:,} files were uploaded, but the limit is {most.files:,} files with {most.all_mb} MB in all: "
            f"{len(over):,} of them were not kept."
        )
    return kept, sentences


def forget(files: Iterable[UploadedFile]) -> None:
    """Free the memory of uploaded files."""
    context = get_script_run_ctx()
    for file in files:
        if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)
        file.truncate(0)  # not closed, since Streamlit copies it once more


class _Held:
    """How much a session holds, in bytes; counted until the session ends."""

    bytes = 0


_sessions: weakref.WeakSet[_Held] = weakref.WeakSet()


def hold(size: int) -> None:
    """Count this as what the session holds: its files, and what was unpacked of them."""
    _own().bytes = size


def room() -> int:
    """Return how many bytes of files this session may have, beside what the others hold."""
    most = limits().all_mb * MB
    if not settings.public():
        return most
    others = sum(held.bytes for held in list(_sessions) if held is not _own())
    return min(most, max(0, 2 * ALL_VISITORS_MB * MB - others))


def _own() -> _Held:
    held: _Held = st.session_state.setdefault("held", _Held())
    _sessions.add(held)
    return held


class LimitedUploads(MemoryUploadedFileManager):
    """Streamlit's store of uploaded files, with limits for clients that ignore those of the pages."""

    def add_file(self, session_id: str, file: UploadedFileRec) -> None:
        """Store a file. Raises HTTPException, which the client gets, beyond the limits."""
        most, own = limits(), list(self.file_storage.get(session_id, {}).values())
        size = len(file.data)
        if len(own) >= TIMES * most.files or size + sum(len(one.data) for one in own) > TIMES * most.all_mb * MB:
            raise HTTPException(413, "You have uploaded too much. Remove some files, or reload the page.")
        everything = [one for files in list(self.file_storage.values()) for one in list(files.values())]
        if size + sum(len(one.data) for one in everything) > ALL_VISITORS_MB * MB:
            raise HTTPException(503, "Too many visitors have uploaded files right now. Try again in some minutes.")
        super().add_file(session_id, file)


def limit_server() -> None:
    """Make the server itself refuse what is too large for a public demo, and keep uploads off the disk.

    Streamlit reads the size limit at each upload. Starlette writes an upload of more than `spool_max_size` to a
    temporary file while it arrives.
    """
    if not settings.public():
        return
    most = limits().file_mb
    if config.get_option("server.maxUploadSize") != most:
        config.set_option("server.maxUploadSize", most)
        MultiPartParser.spool_max_size = 2 * most * MB
    manager = runtime.get_instance().uploaded_file_mgr if runtime.exists() else None
    if type(manager) is MemoryUploadedFileManager:
        manager.__class__ = LimitedUploads
