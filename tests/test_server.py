"""What the server's settings promise to a host: no traceback for visitors, bounded uploads, switches that count."""

import tomllib
from pathlib import Path

import pytest
from apptest import APP
from streamlit import config
from streamlit.testing.v1 import AppTest

from leukodash import settings

CONFIG = tomllib.loads((Path(APP).parent / ".streamlit" / "config.toml").read_text())


@pytest.fixture
def options():
    """Streamlit's options as the server reads them; they are set back after the test."""
    names = ("server.maxUploadSize", "client.showErrorDetails")
    before = {name: config.get_option(name) for name in names}
    yield config.get_option
    for name, value in before.items():
        config.set_option(name, value)


def test_visitors_see_neither_a_traceback_nor_the_message_of_an_error(options):
    config.set_option("client.showErrorDetails", CONFIG["client"]["showErrorDetails"])
    page = AppTest.from_string("raise ValueError('/home/anna/secret')").run()
    (shown,) = page.exception
    assert "secret" not in f"{shown.message}{shown.value}{shown.proto}"
    assert not shown.stack_trace


def test_what_a_visitor_can_send_is_bounded(options, app_demo, monkeypatch):
    assert CONFIG["server"]["maxUploadSize"] == settings.MAX_UPLOAD_MB
    assert CONFIG["server"]["maxWidgetStateSize"] <= 5
    assert CONFIG["server"]["maxCacheDataSize"]
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    assert not AppTest.from_file(APP, default_timeout=120).switch_page("pages/lesson.py").run().exception
    assert options("server.maxUploadSize") == settings.MAX_PUBLIC_UPLOAD_MB


@pytest.mark.parametrize(("value", "public"), [(True, True), (False, False)])
def test_a_switch_among_the_secrets_can_be_a_boolean(options, app_demo, monkeypatch, value, public):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "")  # so that it is unset again after the test
    monkeypatch.delenv("LEUKODASH_PUBLIC")
    page = AppTest.from_file(APP, default_timeout=120).switch_page("pages/lesson.py")
    page.secrets["LEUKODASH_PUBLIC"] = value
    assert not page.run().exception
    assert settings.public() is public
