"""The app: its pages, the navigation menu, and the footer."""

import os
from functools import partial
from importlib import import_module

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from leukodash import settings
from leukodash.app.sign_in import current_actor, remember
from leukodash.app.upload_limits import limit_server
from leukodash.log import acting, to_standard_error

# URL path, title, icon, and the module whose `show` draws the page.
_PAGES = {
    "home": ("Home", ":material/home:", "leukodash.app.home_page"),
    "train": ("Train", ":material/model_training:", "leukodash.app.train.train_page"),
    "compare": ("Compare", ":material/leaderboard:", "leukodash.app.compare.compare_page"),
    "classify": ("Classify", ":material/biotech:", "leukodash.app.classify.classify_page"),
    "data": ("Data", ":material/grid_view:", "leukodash.app.data_page"),
    "lesson": ("Lesson", ":material/school:", "leukodash.app.lesson_page"),
}

# On the dark theme no one primary color carries both Streamlit's white text on it and its own text on the background.
SELECTED_TEXT = """<style>
:is([data-variant][data-selected], [role=tab][aria-selected=true], [data-testid=stSliderThumbValue]),
:is([data-variant][data-selected], [role=tab][aria-selected=true], [data-testid=stSliderThumbValue]) p {
  color: inherit !important;
}
[data-testid=stLayoutWrapper]:has(> .st-key-remember) { display: none; }
</style>"""


def open_app() -> None:
    """Show the page of the current URL.

    Called by ``streamlit_app.py`` and by every file of ``pages/``: Streamlit runs such a file directly if its URL is
    the first one requested from a new server.
    """
    _prepare()
    st.set_page_config(page_title="LeukoDash", page_icon=settings.asset("icon.svg"), layout="wide")
    st.html(SELECTED_TEXT)
    remember()
    acting(current_actor())
    st.navigation([page(name) for name in _PAGES], position="top").run()
    st.divider()
    st.caption("LeukoDash is for teaching and research. It is not a medical device and makes no diagnosis.")


def _prepare() -> None:
    """Start the log, and apply what Streamlit leaves out: switches among the secrets, and limits of uploads."""
    to_standard_error()
    if st.secrets.load_if_toml_exists():
        for name in settings.SWITCHES:  # Streamlit exports texts and numbers, but not `true`
            if isinstance(value := st.secrets.get(name), bool):
                os.environ.setdefault(name, str(int(value)))
    limit_server()


def page(name: str) -> StreamlitPage:
    """Return the page at a URL path ("train", "compare", …), for the menu or as the target of a link."""
    title, icon, module = _PAGES[name]
    return st.Page(partial(_show, module), title=title, icon=icon, url_path=name, default=name == "home")


def _show(module: str) -> None:
    import_module(module).show()
