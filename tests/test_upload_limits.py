"""Limits on uploads and on what is computed from them, and that nobody finds what another session uploaded."""

import gc
from types import SimpleNamespace

import pytest
from starlette.exceptions import HTTPException
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest

from leukodash.app import upload_limits
from leukodash.app.picture_cache import shared_pictures
from leukodash.app.upload_limits import MB, LimitedUploads

made = []


def record(name, size=1):
    return UploadedFileRec(name, name, "image/png", bytes(size))


def uploader():
    import streamlit as st
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    from leukodash.app.upload_limits import admitted

    files = st.file_uploader("Files", accept_multiple_files=True, key="files")
    kept, said = admitted(files)
    st.session_state["kept"], st.session_state["said"] = [file.name for file in kept], said
    st.session_state["freed"] = [not file.getvalue() for file in files]
    manager = get_script_run_ctx().uploaded_file_mgr
    st.session_state["stored"] = sum(len(file.data) for file in next(iter(manager.file_storage.values())).values())


def uploaded(*sizes):
    """The state of a page after files of these sizes, in MB, were uploaded."""
    at = AppTest.from_function(uploader).run()
    at.file_uploader[0].set_value([(f"{number}.png", bytes(int(size * MB)), "") for number, size in enumerate(sizes)])
    at.run()
    assert not at.exception
    return at.session_state


def test_files_beyond_the_limits_are_dropped_with_a_sentence_and_their_memory_is_freed(monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    state = uploaded(9, 11, 9, 9, 9, 1)
    assert state["kept"] == ["0.png", "2.png", "3.png", "5.png"]
    assert state["said"] == [
        "'1.png' is over the limit of 10 MB and was not kept: shrink it.",
        "6 files were uploaded, but the limit is 50 files with 30 MB in all: 1 of them were not kept.",
    ]
    assert state["freed"] == [False, True, False, False, True, False]
    assert state["stored"] == 28 * MB


def test_the_number_of_files_is_limited(monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    state = uploaded(*[0.01] * 53)
    assert len(state["kept"]) == 50
    assert "53 files were uploaded, but the limit is 50 files" in state["said"][0]
    monkeypatch.delenv("LEUKODASH_PUBLIC")
    assert len(uploaded(*[0.01] * 53)["kept"]) == 53


def test_what_other_visitors_hold_counts_until_they_leave(monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    monkeypatch.setattr(upload_limits, "ALL_VISITORS_MB", 10)
    held = upload_limits._Held()
    held.bytes = 15 * MB
    upload_limits._sessions.add(held)
    assert uploaded(3, 3)["kept"] == ["0.png"]
    del held
    gc.collect()
    assert uploaded(3, 3)["kept"] == ["0.png", "1.png"]


def test_the_server_refuses_what_no_page_asks_for(monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    store = LimitedUploads("/upload")
    for number in range(6):
        store.add_file("one", record(str(number), 10 * MB))
    with pytest.raises(HTTPException, match="413"):
        store.add_file("one", record("more"))
    store.remove_file("one", "0")
    store.add_file("one", record("more"))
    for session in range(4):
        for number in range(6):
            store.add_file(str(session), record(str(number), 10 * MB))
    with pytest.raises(HTTPException, match="503"):
        store.add_file("last", record("x", 10 * MB))
    for number in range(100):
        store.add_file("many", record(str(number)))
    with pytest.raises(HTTPException, match="413"):
        store.add_file("many", record("101"))


def test_a_public_server_takes_small_uploads_only_and_keeps_them_off_the_disk(monkeypatch):
    from starlette.formparsers import MultiPartParser
    from streamlit import config, runtime
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

    store = MemoryUploadedFileManager("/upload")
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: SimpleNamespace(uploaded_file_mgr=store))
    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    before = config.get_option("server.maxUploadSize")
    try:
        upload_limits.limit_server()
        assert type(store) is MemoryUploadedFileManager
        monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
        upload_limits.limit_server()
        assert config.get_option("server.maxUploadSize") == 10
        assert MultiPartParser.spool_max_size > 11 * MB  # the size, and Streamlit's allowance for the form
        assert type(store) is LimitedUploads
    finally:
        config.set_option("server.maxUploadSize", before)


def computing():
    from pathlib import Path

    import test_upload_limits

    from leukodash.app.picture_cache import kept
    from leukodash.data.images import Sample

    path = Path(test_upload_limits.__file__)
    for file in (("upload.png", b"x"), Sample(("sample.png", b"x")), path):
        kept(file, "number", lambda file=file: test_upload_limits.made.append(type(file).__name__))


def test_what_is_computed_from_an_upload_is_computed_again_in_another_session():
    import streamlit as st

    st.cache_resource.clear()
    made.clear()
    first = AppTest.from_function(computing).run()
    assert not first.exception
    assert made == ["tuple", "Sample", "PosixPath"]
    first.run()
    assert len(made) == 3
    second = AppTest.from_function(computing).run()
    assert made[3:] == ["tuple"]
    assert len(shared_pictures()) == 4
    del first, second
    gc.collect()
    assert len(shared_pictures()) == 2  # nothing of the uploads is left
