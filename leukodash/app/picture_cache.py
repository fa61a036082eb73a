"""What is computed from pictures: within one limit of bytes, and of an upload for its own session only."""

import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

import streamlit as st

from leukodash.byte_cache import ByteCache, OwnPart
from leukodash.data.images import Sample, Source

T = TypeVar("T")
KEPT_BYTES = 128 * 2**20
OWN = "own-pictures"


@st.cache_resource(show_spinner=False)
def shared_pictures() -> ByteCache:
    """Return the cache of all sessions."""
    return ByteCache(KEPT_BYTES)


def pictures_of(file: Source) -> ByteCache | OwnPart:
    """Return where what is computed from a file is kept.

    What was computed from an upload is found in this session only, so that not even the time of an answer tells whether
    somebody else had the same picture, and goes when the session does.
    """
    if isinstance(file, Path | Sample):
        return shared_pictures()
    if OWN not in st.session_state:
        st.session_state[OWN] = OwnPart(shared_pictures())
    return st.session_state[OWN]


def kept(file: Source, what: Hashable, make: Callable[[], T]) -> T:
    """Return what `make` computes from a file, computed once; `what` tells it from other things."""
    return pictures_of(file).remember((what, content(file)), make)


def content(file: Source) -> Hashable:
    """Return what tells the content of a file from others: its path and time, or the SHA-256 of its bytes."""
    return (str(file), file.stat().st_mtime_ns) if isinstance(file, Path) else hashlib.sha256(file[1]).hexdigest()


def data_of(file: Source) -> Path | bytes:
    """Return what `images.read_image` reads."""
    return file if isinstance(file, Path) else file[1]
