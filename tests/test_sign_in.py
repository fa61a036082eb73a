"""Signing in: nothing of it on one's own machine, visitors by their browser, a class by names or by accounts."""

import json
import threading

import pytest
import streamlit as st
from apptest import APP, open_page, texts, widget
from made_runs import made_run, publish
from streamlit.runtime.context import StreamlitCookies
from streamlit.testing.v1 import AppTest

from leukodash import settings
from leukodash.app import sign_in
from leukodash.errors import NotAllowedError, RunError
from leukodash.jobs import launch
from leukodash.runs import people
from leukodash.runs.access import ANYONE
from leukodash.runs.run_folder import list_runs

CODE = "correct horse battery"
ACCOUNT = {"is_logged_in": True, "iss": "https://school", "sub": "7", "name": "Ana", "email": "Ana@school"}


@pytest.fixture(autouse=True)
def no_tries(monkeypatch):
    monkeypatch.setattr(people, "_wrong", {})


@pytest.fixture
def in_class(monkeypatch, app_demo):
    monkeypatch.setenv("LEUKODASH_CLASS", "1")
    monkeypatch.setenv("LEUKODASH_TEACHER_CODE", CODE)


@pytest.fixture
def public(monkeypatch, app_demo):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(launch, "launch", lambda run: None)


def enter(page, name, *, key="", code=""):
    """Sign in with a name, in the form that the button opens; returns the sentence if that is refused."""
    page.button(key="sign-in").click().run()
    page.text_input(key="sign-in-name").input(name)
    page.text_input(key="sign-in-key").input(key)
    page.text_input(key="sign-in-code").input(code)
    page.button(key="sign-in-go").click().run()
    assert not page.exception
    state = page.session_state
    return state["sign-in-problem"] if "sign-in-problem" in state else ""  # noqa: SIM401


def key_of(page):
    return page.session_state["browser-key"]


def keys(page, start):
    return [button.key for button in page.button if button.key and button.key.startswith(start)]


# ------------------------------------------------------------------------------------------ the register of names


def test_a_name_is_whose_key_it_was_taken_with_in_any_case_and_keeps_its_id():
    key = people.new_key()
    ana = people.take_name(" Ana  Lovelace ", key)
    assert (ana.name, ana.role) == ("Ana Lovelace", "student")
    assert people.take_name("ana lovelace", key) == people.who_has(key) == ana
    with pytest.raises(NotAllowedError, match="Ana Lovelace is taken"):
        people.take_name("ANA LOVELACE", people.new_key())
    with pytest.raises(NotAllowedError, match="belongs to another name"):
        people.take_name("Ben", key)
    assert people.names() == ["Ana Lovelace"]
    people.free_name("Ana Lovelace")
    assert people.who_has(key) is None and people.names() == []
    other = people.new_key()
    assert people.take_name("Ana Lovelace", other) == people.who_has(other) == ana


def test_the_register_holds_no_key_and_no_code(monkeypatch):
    monkeypatch.setenv("LEUKODASH_TEACHER_CODE", CODE)
    keys = [people.new_key() for _ in range(3)]
    for number, key in enumerate(keys):
        people.take_name(f"Person {number}", key, teacher=True)
    text = (settings.checkpoints() / ".people.json").read_text()
    assert not [secret for secret in [*keys, CODE] if secret in text]
    entries = json.loads(text).values()
    assert len({entry["hash"] for entry in entries}) == len({entry["code"] for entry in entries}) == 3
    assert list_runs() == []


@pytest.mark.parametrize("name", ["", "  ", "a\x00b", "x" * 61, "a\u202eb"])
def test_a_name_has_letters_that_can_be_shown(name):
    with pytest.raises(RunError, match="1 to 60 letters"):
        people.take_name(name, people.new_key())


@pytest.mark.parametrize("key", ["", "k7fd", "K7FD-9Q2M-X4TZ-P3WA-H8CE", "k7fd-9q2m-x4tz-p3wa-h8c;"])
def test_a_key_is_of_the_kind_that_is_given_out(key):
    with pytest.raises(RunError, match="five groups"):
        people.take_name("Ana", key)
    assert people.is_key(people.new_key())


@pytest.mark.parametrize("content", ["{", "[]", '{"ana": 3}', '{"ana": {"name": "Ana"}}', "\x00"])
def test_a_damaged_register_lets_nobody_in_and_stays_as_it_is(content):
    settings.checkpoints().mkdir()
    (settings.checkpoints() / ".people.json").write_text(content)
    assert people.who_has(people.new_key()) is None
    with pytest.raises(RunError, match="cannot be read"):
        people.take_name("Ana", people.new_key())
    assert (settings.checkpoints() / ".people.json").read_text() == content


def test_of_many_who_want_one_name_at_once_one_has_it():
    taken, refused = [], []

    def take():
        try:
            taken.append(people.take_name("Ana", people.new_key()))
        except NotAllowedError:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)


def test_the_teachers_code_can_be_tried_five_times_from_an_address(monkeypatch):
    assert not people.is_teachers_code("", "somewhere")  # there is none
    monkeypatch.setattr(people, "_wrong", {})
    monkeypatch.setenv("LEUKODASH_TEACHER_CODE", CODE)
    for _ in range(people.MAX_TRIES):
        assert not people.is_teachers_code("a guess", "10.0.0.1")
    with pytest.raises(NotAllowedError, match="wrong 5 times"):
        people.is_teachers_code(CODE, "10.0.0.1")
    assert people.is_teachers_code(f" {CODE} ", "10.0.0.2")
    clock = people.time.monotonic() + people.TRIES_SECONDS
    monkeypatch.setattr(people.time, "monotonic", lambda: clock)
    assert people.is_teachers_code(CODE, "10.0.0.1")


def test_a_teacher_is_one_until_the_code_changes(monkeypatch):
    monkeypatch.setenv("LEUKODASH_TEACHER_CODE", CODE)
    key = people.new_key()
    assert people.take_name("Ms T", key, teacher=True).role == "teacher"
    assert people.who_has(key).role == "teacher"
    for code in ("another one", ""):
        monkeypatch.setenv("LEUKODASH_TEACHER_CODE", code)
        assert people.who_has(key).role == "student"


# ------------------------------------------------------------------------------------------ one's own machine


@pytest.mark.parametrize("name", ["home", "train", "compare"])
def test_on_ones_own_machine_nothing_of_it_is_seen(app_demo, name):
    made_run(about={"by": "somebody", "owner": "Ana"})
    page = AppTest.from_file(APP, default_timeout=120).run() if name == "home" else open_page(name)
    assert not page.exception
    assert not keys(page, "sign-") and "browser-key" not in page.session_state
    said = texts(page).lower()
    assert "sign in" not in said and "public demo" not in said
    if name == "train":
        assert page.text_input(key="owner").label == "Your name"
        assert not page.button(key=keys(page, "delete-")[0]).disabled


# ------------------------------------------------------------------------------------------ a public demo


def test_a_visitor_is_known_by_the_key_of_the_browser(public, monkeypatch):
    key = people.new_key()

    def who(**cookies):
        monkeypatch.setattr(type(st.context), "cookies", property(lambda _: StreamlitCookies(cookies)))
        page = AppTest.from_function(_say_who).run()
        return page.markdown[0].value, [element.proto.body for element in page.get("html")]

    mine = who(**{sign_in.COOKIE: key})
    assert mine == who(**{sign_in.COOKIE: key})
    assert mine[1] == []  # the browser has it
    assert key not in mine[0]
    for wrong in ({}, {sign_in.COOKIE: "x"}, {sign_in.COOKIE: f'{key}";alert(1)//'}):
        other, (script,) = who(**wrong)
        assert other != mine[0]
        assert "SameSite=Lax" in script and "alert" not in script


def _say_who():
    import streamlit as st

    from leukodash.app.sign_in import current_actor, remember

    remember()
    actor = current_actor()
    st.markdown(f"{actor.role} {actor.id}")


def test_a_visitor_sees_and_changes_their_own_runs_and_a_strangers_address_is_an_unknown_one(public, started):
    state = {"browser-key": people.new_key()}
    page = open_page("train", state=state)
    assert not [text for text in page.text_input if text.key == "owner"]
    page.button(key="start").click().run()
    assert not page.exception
    (mine,) = list_runs()
    assert mine.about["owner"] == "" and mine.by
    made_run("mobilenet", about={"by": mine.by}, seed=1)
    operators = made_run("vgg16", seed=2, about={"owner": "Operator"})
    strangers = made_run("resnet50", seed=3, about={"by": "stranger", "title": "Strangers own"})

    strangers.weights.touch()

    page = open_page("train", state=state)
    assert "Strangers own" not in texts(page)
    assert not keys(page, f"delete-{operators.id}")
    assert "is another person's run and cannot be deleted by you" in texts(page)
    for name in ("compare", "classify"):
        page = open_page(name, state=state, runs=strangers.id)
        unknown = open_page(name, state=state, runs="20200101-000000-vgg16-dead")
        assert texts(page).replace(strangers.id, "?") == texts(unknown).replace("20200101-000000-vgg16-dead", "?")
        assert "Strangers own" not in texts(page)
    assert "VGG16" in texts(open_page("compare", state=state, runs=operators.id))

    page = open_page("train", state={"browser-key": people.new_key()})  # another browser
    assert not keys(page, f"stop-{mine.id}") and mine.title not in texts(page)


def test_a_form_offers_a_visitor_built_in_cells_networks_with_weights_and_short_runs(public, app_demo, monkeypatch):
    (settings.data_root() / "patients").mkdir()
    for label in ("blast", "normal"):
        (settings.data_root() / "patients" / label).mkdir()
        (settings.data_root() / "patients" / label / "1.png").write_bytes(b"x")
    page = open_page("train", backbones="vgg16,mobilenet", epochs="5000", data="patients")
    said = texts(page)
    for words in ("no network 'vgg16'", "Epochs takes numbers from 1 to 30, not 5000", "no data set 'patients' here"):
        assert words in said
    assert str(settings.data_root()) not in said
    assert page.selectbox(key="choose-data").options == ["Demo cells (generated)", "Sample cells (48 of C-NMC)"]
    assert page.pills(key="backbones").options == ["MobileNet"]
    page.pills(key="preset").set_value("recommended").run()
    assert widget(page.number_input, "Epochs").value == 30  # of 60
    assert not page.button(key="start").disabled
    page.pills(key="preset").set_value("mamaev-2023").run()
    assert "In this public demo a run must train the head of a frozen network" in texts(page)
    assert page.button(key="start").disabled
    page.pills(key="preset").set_value("quick").run()
    page.selectbox(key="vary").select("seed").run()
    page.text_input(key="vary-seed").input("1,2,3").run()
    assert "2 runs at a time, not 3" in texts(page) and page.button(key="start").disabled
    monkeypatch.setattr("leukodash.jobs.estimate.MAX_SECONDS", 2.0)
    page.text_input(key="vary-seed").input("1").run()
    assert "a run may take 2 s, not about" in texts(page) and page.button(key="start").disabled


def test_what_is_off_in_a_public_demo_says_so(public, started):
    run = made_run()
    assert "The search for a learning rate is off" in texts(open_page("train"))
    page = open_page("compare", runs=run.id)
    assert "The import of predictions is off" in texts(page)
    assert not page.get("file_uploader")
    page = AppTest.from_function(_export_part, args=(str(run.path),)).run()
    assert "The export of networks is off" in texts(page) and not page.button


def _export_part(path):
    from pathlib import Path

    from leukodash.app.classify.export_part import export_part
    from leukodash.runs.run_folder import Run

    export_part([Run(Path(path))])


# ------------------------------------------------------------------------------------------ a class with names


def test_before_signing_in_pages_are_read_and_whatever_changes_something_says_how_to(in_class, started):
    made_run("vgg16", seed=1)
    classmates = made_run("resnet50", seed=2, about={"by": "ben", "owner": "Ben"})
    (published,) = publish(made_run("mobilenet", seed=3))
    page = open_page("train")
    assert page.button(key="start").disabled
    assert "Sign in first: nothing can be changed here without a name." in texts(page)
    assert page.button(key="sign-in-start").label == page.button(key="sign-in").label == "Sign in"
    assert not keys(page, "delete-")
    assert "Ben" not in texts(page)
    page = open_page("compare", runs=published.id)
    assert "Sign in first" in texts(page) and not page.get("file_uploader")
    assert "not here" in texts(open_page("compare", runs=classmates.id))


def test_students_own_their_runs_and_a_teacher_acts_on_all(in_class, started):
    ana, ben, teacher = (open_page("train") for _ in range(3))
    enter(ana, "Ana")
    ana.button(key="start").click().run()
    (run,) = list_runs()
    assert run.about["owner"] == "Ana"
    run.write("status.json", {"state": "stopped"})

    said = enter(ben, "ana")
    assert "The name Ana is taken" in said
    ben = open_page("train")
    enter(ben, "Ben")
    assert "by Ana" in texts(ben) and "another person's run" in texts(ben)
    assert not keys(ben, f"delete-{run.id}") and ben.button(key=f"resume-{run.id}").disabled
    assert ben.pills(key="of").options == ["Ana"]

    assert "not the teacher's code" in enter(teacher, "Ms T", code="a guess")
    teacher = open_page("train")
    enter(teacher, "Ms T", code=CODE)
    assert "by Ana" in texts(teacher)
    teacher.button(key=f"delete-{run.id}").click().run()
    assert not list_runs()
    teacher.button(key=f"undo-{run.id}").click().run()
    assert [each.by for each in list_runs()] == [run.by]

    ana = open_page("train", state={"browser-key": key_of(ana)})  # after a reload
    assert not keys(ana, "sign-in")
    ana.button(key=f"delete-{run.id}").click().run()
    assert not list_runs()


def test_signing_out_forgets_the_person_and_the_key_brings_them_back(in_class):
    page = open_page("train")
    enter(page, "Ana")
    key, person = key_of(page), page.session_state["person"]
    assert key in [code.value for code in page.code]
    page.button(key="sign-out").click().run()
    assert page.session_state["person"] == ANYONE and key_of(page) != key
    other = open_page("train")
    enter(other, "Ana", key=f" {key.upper()} ")
    assert other.session_state["person"] == person and key_of(other) == key


def test_a_teacher_frees_a_name_whose_key_is_lost(in_class):
    ana = people.take_name("Ana", people.new_key())
    page = open_page("train")
    enter(page, "Ms T", code=CODE)
    page.selectbox(key="lost-name").select("Ana").run()
    page.button(key="free-name").click().run()
    assert not page.exception
    assert people.take_name("Ana", people.new_key()) == ana


def test_a_name_is_shown_as_it_is_and_never_as_markdown(in_class, started):
    page = open_page("train")
    name = "![x](http://evil/x.png) <b>$a$</b>"
    enter(page, name)
    page.button(key="start").click().run()
    (run,) = list_runs()
    run.write("status.json", {"state": "failed", "error": "No ![x](http://evil/x.png) here"})
    page.run()
    raw = [element.value for kind in ("markdown", "caption", "error") for element in page.get(kind)]
    raw += page.pills(key="of").options
    assert [text for text in raw if "evil" in text]
    assert not [text for text in raw if "![x](" in text or "<b>" in text]
    assert texts(page).count("![x](http://evil/x.png)") >= 2


# ------------------------------------------------------------------------------------------ a class with accounts


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ({}, "student"),
        ({"email": "MsT@school"}, "teacher"),
        ({"email": "MsT@school", "email_verified": True}, "teacher"),
        ({"email": "MsT@school", "email_verified": False}, "student"),
        ({"email": "MsT@school", "email_verified": "false"}, "student"),
        ({"email": None}, "student"),
        ({"sub": ""}, "anyone"),
        ({"is_logged_in": False}, "anyone"),
    ],
)
def test_an_account_is_a_teachers_by_its_verified_address(in_class, monkeypatch, changes, role):
    monkeypatch.setenv("LEUKODASH_TEACHERS", "head@school, mst@school")
    page = AppTest.from_function(_say_who)
    page.user = ACCOUNT | changes
    assert page.run().markdown[0].value.split()[0] == role


def test_people_with_the_same_name_are_told_apart_by_issuer_and_subject(in_class):
    def who(**changes):
        page = AppTest.from_function(_say_who)
        page.user = ACCOUNT | changes
        return page.run().markdown[0].value

    assert who() == who(name="Ana L.", email="other@school")
    assert len({who(), who(sub="8"), who(iss="https://other")}) == 3


def test_with_accounts_the_owner_of_a_run_is_the_name_of_the_account(in_class, started):
    page = open_page("train", user=ACCOUNT)
    page.button(key="start").click().run()
    (run,) = list_runs()
    assert run.about["owner"] == "Ana"
    assert "browser-key" not in page.session_state
    page.button(key="sign-out").click().run()
    assert page.button(key="start").disabled


def test_each_provider_has_a_button_and_missing_packages_get_a_sentence(in_class, monkeypatch):
    def shown(**auth):
        page = AppTest.from_file(APP, default_timeout=120).switch_page("pages/train.py")
        page.user, page.secrets = {"is_logged_in": False}, {"auth": auth}
        page.run()
        return [button.label for button in page.button if button.label.startswith("Sign in")], texts(page)

    monkeypatch.setattr("leukodash.app.sign_in_form.find_spec", lambda name: True)
    one, several = {"client_id": "x"}, {"school": {"client_id": "x"}, "lab": {"client_id": "y"}}
    assert shown(**one)[0] == ["Sign in"] * 2
    assert shown(**several, redirect_uri="http://x")[0] == ["Sign in with school", "Sign in with lab"] * 2
    monkeypatch.setattr("leukodash.app.sign_in_form.find_spec", lambda name: None if name == "authlib" else True)
    labels, said = shown(**one)
    assert labels == [] and "pip install 'leukodash[class]'" in said
