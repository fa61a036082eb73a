"""Pages of the app without a browser: Streamlit's AppTest runs their script."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).resolve().parents[1] / "streamlit_app.py")


def open_page(name, *, user=None, state=None, **query):
    """Return the page after its first run, with these query parameters in its address.

    `user` is who signed in with an account, `state` what the session knows already.
    """
    page = AppTest.from_file(APP, default_timeout=120).switch_page(f"pages/{name}.py")
    page.user = user or {}
    for key, value in (state or {}).items():
        page.session_state[key] = value
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def texts(page):
    """Return all texts of a page without an exception, and without the backslashes that escape untrusted text."""
    assert not page.exception
    kinds = ("markdown", "caption", "warning", "info", "success", "error")
    return "\n".join(element.value for kind in kinds for element in page.get(kind)).replace("\\", "")


def widget(kind, label):
    """Return the widget with this label, from `page.button`, say."""
    return next(element for element in kind if element.label == label)
