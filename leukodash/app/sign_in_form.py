"""The way to sign in to a class: at the title of every page, and wherever something needs a name."""

from importlib.util import find_spec

import streamlit as st

from leukodash import settings
from leukodash.app.common import plain
from leukodash.app.sign_in import browser_key, current_actor, has_accounts, sign_in, sign_out
from leukodash.errors import LeukoDashError
from leukodash.runs import people
from leukodash.runs.run_folder import MAX_CHARACTERS

NO_AUTHLIB = "Signing in with an account needs two more packages on this server: `pip install 'leukodash[class]'`."


def person_part() -> None:
    """Show who is signed in, with the way to sign out, or the way to sign in."""
    actor = current_actor()
    if actor.role == "anyone":
        sign_in_button("sign-in")
        return
    role = " · teacher" if actor.role == "teacher" else ""
    with st.popover(f"{plain(actor.name)}{role}", icon=":material/person:", key="person-menu", width="content"):
        if not has_accounts():
            st.markdown("Note your key: it lets you in from another browser, and again after you sign out.")
            st.code(browser_key(), language=None)
            if actor.role == "teacher":
                _free_a_name(actor.name)
        st.button("Sign out", key="sign-out", icon=":material/logout:", on_click=sign_out)


def refused(words: str, key: str) -> None:
    """Say why something may not be done, with the way to sign in where that helps. `words` is untrusted text."""
    st.info(plain(words), icon=":material/lock:")
    if settings.class_mode() and current_actor().role == "anyone":
        sign_in_button(f"sign-in-{key}")


def sign_in_button(key: str) -> None:
    """Show a button that opens the form, or the page of the provider of accounts."""
    if has_accounts() and not (find_spec("authlib") and find_spec("httpx")):
        st.warning(NO_AUTHLIB, icon=":material/extension_off:")
        return
    icon = ":material/login:"
    if not has_accounts():
        if st.button("Sign in", key=key, icon=icon):
            _form()
        return
    for name in _providers():
        label = f"Sign in with {plain(name)}" if name else "Sign in"
        st.button(label, key=f"{key}-{name}", icon=icon, on_click=st.login, args=[name] if name else [])


def _providers() -> list[str]:
    """Return the names of the providers in ``[auth]``; one without a name is ""."""
    section = st.secrets.get("auth", {}) if st.secrets.load_if_toml_exists() else {}
    named = [name for name, value in section.items() if hasattr(value, "keys") and "client_id" in value]
    return [""] if "client_id" in section else named


@st.dialog("Sign in")
def _form() -> None:
    """Ask for a name. It is taken on first use; a key in this browser proves later whose it is."""
    if current_actor().role != "anyone":
        st.rerun()  # which closes the form
    with st.form("sign-in-form", border=False):
        st.text_input(
            "Your name", max_chars=MAX_CHARACTERS["owner"], key="sign-in-name", help="Your class sees it at your runs."
        )
        with st.expander("Signed in before in another browser? Teacher?"):
            st.text_input("Key", max_chars=40, key="sign-in-key", placeholder="k7fd-9q2m-…", help="It is at your name.")
            if settings.teacher_code():
                st.text_input("Teacher's code", type="password", max_chars=200, key="sign-in-code")
        st.form_submit_button("Sign in", type="primary", key="sign-in-go", on_click=_enter)
    if problem := st.session_state.pop("sign-in-problem", ""):
        st.error(plain(problem), icon=":material/error:")


def _enter() -> None:
    name, key, code = (st.session_state.get(f"sign-in-{part}", "") for part in ("name", "key", "code"))
    try:
        sign_in(name, key, code)
    except LeukoDashError as error:
        st.session_state["sign-in-problem"] = str(error)


def _free_a_name(own: str) -> None:
    """Let the teacher free the name of somebody who has lost their key."""
    try:
        others = [name for name in people.names() if name != own]
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        lost = st.selectbox("Free the name of", others, index=None, key="lost-name", help="Who enters it next has it.")
        st.button("Free", key="free-name", disabled=lost is None, on_click=people.free_name, args=[lost or ""])
