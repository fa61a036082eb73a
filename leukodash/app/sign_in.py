"""Who uses this session: nobody in particular on one's own machine, a visitor, or who signed in to a class.

What they may do is decided in `runs/access.py`. The way to sign in is in `sign_in_form.py`.
"""

import hashlib

import streamlit as st

from leukodash import settings
from leukodash.errors import NotAllowedError
from leukodash.log import record
from leukodash.runs import people
from leukodash.runs.access import ANYONE, Actor
from leukodash.runs.run_folder import MAX_CHARACTERS

COOKIE = "leukodash-key"
REMEMBER = """<script>
document.cookie = "{cookie}={key}; path=/; max-age=31536000; SameSite=Lax"
  + (location.protocol === "https:" ? "; Secure" : "");
</script>"""


def current_actor() -> Actor:
    """Return who acts in the session that calls this."""
    if settings.public():
        return Actor(_id("visitor", browser_key()), role="visitor")
    if not settings.class_mode():
        return ANYONE
    if has_accounts():
        return _account()
    if "person" not in st.session_state:
        st.session_state["person"] = people.who_has(browser_key()) or ANYONE
    return st.session_state["person"]


def has_accounts() -> bool:
    """Return whether people sign in with accounts of a provider, which ``secrets.toml`` names under ``[auth]``."""
    return "is_logged_in" in st.user


def sign_in(name: str, key: str, code: str) -> None:
    """Sign in with a name, and the teacher's code or "". A new name gets the browser's key where `key` is empty.

    Raises LeukoDashError if that is refused.
    """
    teacher = bool(code)
    if teacher and not people.is_teachers_code(code, st.context.ip_address or ""):
        raise NotAllowedError("This is not the teacher's code. Students leave it empty.")
    key = key.strip().lower() or browser_key()
    st.session_state["person"] = people.take_name(name, key, teacher=teacher)
    record("sign-in", st.session_state["person"])
    st.session_state["browser-key"] = key


def sign_out() -> None:
    """Forget the person and their key in this browser. A callback."""
    if has_accounts():
        st.logout()
    st.session_state.update({"person": ANYONE, "browser-key": people.new_key()})


def browser_key() -> str:
    """Return the key that this browser keeps in a cookie; without cookies, the session keeps it."""
    if "browser-key" not in st.session_state:
        kept = st.context.cookies.to_dict().get(COOKIE, "")
        st.session_state["browser-key"] = kept if people.is_key(kept) else people.new_key()
    return st.session_state["browser-key"]


def remember() -> None:
    """Have the browser keep its key, where keys are used and it does not have it yet."""
    by_key = settings.public() or (settings.class_mode() and not has_accounts())
    if by_key and st.context.cookies.to_dict().get(COOKIE) != browser_key():
        with st.container(key="remember"):
            st.html(REMEMBER.format(cookie=COOKIE, key=browser_key()), unsafe_allow_javascript=True)


def _account() -> Actor:
    """Return who signed in with an account: ANYONE before that."""
    told = st.user.to_dict()
    if not told.get("is_logged_in") or not told.get("sub"):
        return ANYONE
    email = str(told.get("email") or "")
    verified = str(told.get("email_verified")).lower() != "false"
    name = str(told.get("name") or email or "without a name")[: MAX_CHARACTERS["owner"]]
    teaches = verified and email.lower() in settings.teachers()
    actor = Actor(_id(str(told.get("iss")), str(told["sub"])), name, "teacher" if teaches else "student")
    if st.session_state.get("account") != actor:
        record("sign-in", actor)
    st.session_state["account"] = actor
    return actor


def _id(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]
