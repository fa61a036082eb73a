"""A public demo and a class in a real browser: what strangers try, and two students and a teacher who sign in."""

import shutil
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import pandas as pd
import pytest
from app import PAGE_SECONDS, SIZES, START, click_until, expect, fits, still, until
from made_runs import made_cells, made_run
from markdown_it import MarkdownIt
from oidc_provider import Provider

from benchmarks.server import ROOT, Server
from leukodash.runs.access import MAX_WAITING_OWN, OPERATOR
from leukodash.runs.imported_predictions import import_predictions

pytestmark = pytest.mark.browser

SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
EVIL = "evil.test"
PICTURE = f"![q](http://{EVIL}/q.png)"
HOSTILE = f"=1+1 {SCRIPT} {PICTURE}"
PATHS = "../../../../../../etc/passwd"
ADDRESSES = {  # every parameter that a page reads
    "train": "data backbones preset owner epochs input_size head learning_rate split.kind split.counts seed weights x",
    "compare": "runs question tab rule at sensitivity share table-of person-run average baselines x",
    "classify": "runs cells own guess method decide x",
    "data": "data x",
}


@contextmanager
def browser_of(browser, viewport="desktop"):
    """A browser of its own, with a page that keeps count of what is asked for elsewhere; no exception may be on it."""
    context = browser.new_context(viewport=SIZES[viewport])
    context.set_default_timeout(1000 * PAGE_SECONDS)
    page = context.new_page()
    page.elsewhere = []
    context.on("request", lambda request: urlsplit(request.url).hostname == EVIL and page.elsewhere.append(request.url))
    yield page
    assert not page.locator("[data-testid=stException]").all_inner_texts()
    context.close()


def harmless(page):
    """Whether no script of a stranger has run and nothing was loaded from where a stranger wanted it."""
    return page.evaluate("window.hacked") is None and not page.elsewhere


def said(page):
    still(page)
    return page.get_by_test_id("stApp").inner_text()


def server_in(folder, demo, **environment):
    """Return a server over the drawn cells, with what comes with LeukoDash alone; it is not started yet."""
    shutil.copytree(demo, folder / "data" / "demo")
    return Server(folder, LEUKODASH_WEIGHTS="", CUDA_VISIBLE_DEVICES="-1", **environment)


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory, drawn_demo):
    """A public demo, with a stranger's run, and a run and imported predictions of the operator full of scripts."""
    folder = tmp_path_factory.mktemp("public")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEUKODASH_CHECKPOINTS", str(folder / "checkpoints"))
        patch.delenv("LEUKODASH_PUBLIC", raising=False)
        cells = made_cells()
        cells = cells.assign(subject=cells["subject"] + HOSTILE, file=cells["file"] + SCRIPT)
        hostile = made_run("vgg16", cells=cells, about={"title": HOSTILE, "owner": HOSTILE, "notes": HOSTILE})
        stranger = made_run("resnet50", seed=1, about={"by": "stranger", "title": "Strangers own"})
        label = SCRIPT.replace(",", "")
        table = pd.DataFrame({"file": list("abcd"), "label": [label, "hem"] * 2, f"p_{label}": [0.9, 0.1, 0.4, 0.6]})
        table["p_hem"] = 1 - table[f"p_{label}"]
        content = table.to_csv(index=False).encode()
        imported = import_predictions(content, f"{SCRIPT}.csv", title="Imported", owner="x", actor=OPERATOR)
    published = str(ROOT / "checkpoints" / "published")
    server = server_in(folder, drawn_demo, LEUKODASH_PUBLIC="1", LEUKODASH_PUBLISHED=published)
    server.start()
    server.hostile, server.stranger, server.imported = hostile, stranger, imported
    yield server
    server.end()


@pytest.fixture
def visitor(browser, demo_server):
    with browser_of(browser) as page:
        yield page


def test_a_visitor_has_few_short_runs_sees_their_own_alone_and_has_them_after_a_reload(visitor, browser, demo_server):
    page, server = visitor, demo_server
    start = page.get_by_role("button", name=START)
    page.goto(f"{server.url}/train?epochs=5000&data={PATHS}")
    expect(start).to_be_enabled()
    text = said(page)
    for words in ("Epochs takes numbers from 1 to 30, not 5000", "There is no data set", "A public demo: you can have"):
        assert words in text
    assert "Strangers own" not in text and "Your name" not in page.content()
    page.goto(f"{server.url}/train?preset=mamaev-2023")
    expect(start).to_be_disabled()
    assert "In this public demo a run must train the head of a frozen network" in said(page)
    page.goto(f"{server.url}/train?epochs=30&input_size=224")
    for count in range(1, MAX_WAITING_OWN + 1):
        expect(start).to_be_enabled()
        start.click()
        until(page, lambda count=count: len(own_runs(server)) == count, PAGE_SECONDS)
    expect(start).to_be_disabled()
    expect(page.get_by_text("you can have 2 runs at a time. Wait for yours, or stop one.").first).to_be_visible()
    page.reload()
    mine = own_runs(server)
    for run in mine:
        expect(page.locator(f".st-key-stop-{run.id} button")).to_be_enabled()
    with browser_of(browser, "phone") as other:
        other.goto(f"{server.url}/train")
        expect(other.get_by_role("button", name=START)).to_be_enabled()
        assert "2 runs come first" in said(other)
        assert fits(other)
        assert not other.locator("[class*=st-key-stop-]").count()
        for run in (*mine, server.stranger):
            for name in ("compare", "classify"):
                other.goto(f"{server.url}/{name}?runs={run.id}")
                expect(other.get_by_role("heading", level=1)).to_be_visible()
                text = said(other)
                assert "Strangers own" not in text and run.title not in text
    for run in mine:
        page.locator(f".st-key-stop-{run.id} button").click()
    until(page, lambda: all(run.state == "stopped" for run in mine))
    run = mine[0]
    click_until(
        page, page.locator(f".st-key-more-{run.id} button").first.click, page.locator(f".st-key-delete-{run.id} button")
    )
    page.locator(f".st-key-delete-{run.id} button").click()
    until(page, lambda: len(own_runs(server)) == 1, PAGE_SECONDS)


def save(page, button, path):
    with page.expect_download() as download:
        button.click()
    download.value.save_as(path)


def own_runs(server):
    return [run for run in server.runs() if run.by and run.id != server.stranger.id]


def test_scripts_in_names_of_files_classes_runs_and_owners_do_not_run(visitor, demo_server, tmp_path):
    page, server = visitor, demo_server
    page.goto(f"{server.url}/train")
    expect(page.get_by_text("onerror").first).to_be_visible()
    assert harmless(page)
    for run in (server.hostile, server.imported):
        page.goto(f"{server.url}/compare?runs={run.id}")
        report = page.get_by_role("button", name="Report")
        expect(report).to_be_visible()
        still(page)
        assert harmless(page)
        save(page, report, tmp_path / "report.html")
        save(page, page.get_by_role("button", name="CSV", exact=True), tmp_path / "table.csv")
        page.get_by_role("button", name="Model card").click()
        save(page, page.locator(".st-key-card").get_by_role("button"), tmp_path / "card.md")
        opened = page.context.new_page()
        opened.goto((tmp_path / "report.html").as_uri())
        assert opened.evaluate("window.hacked") is None
        opened.set_content(MarkdownIt("commonmark").render((tmp_path / "card.md").read_text()))
        assert opened.evaluate("window.hacked") is None and not page.elsewhere
        opened.close()
        cells = pd.read_csv(tmp_path / "table.csv", dtype=str).stack()
        assert not cells.str.match(r"[=+@\t\r]").any()
    page.goto(f"{server.url}/compare")
    page.get_by_role("button", name="Choose runs").click()
    expect(page.get_by_role("dialog").get_by_test_id("stDataFrame")).to_be_visible()
    still(page)
    page.keyboard.press("Escape")
    assert harmless(page)


def test_big_and_hostile_uploads_are_refused_kindly(visitor, demo_server, tmp_path):
    page, server = visitor, demo_server
    cell = next((ROOT / "leukodash" / "assets" / "cells").rglob("*.webp"))
    name = "<img src=x onerror=window.hacked=1>.webp"
    page.goto(f"{server.url}/classify?own=true")
    files = page.locator("input[type=file]").first
    files.set_input_files({"name": name, "mimeType": "image/webp", "buffer": cell.read_bytes()})
    expect(page.get_by_role("img", name=f"Cell {name}")).to_be_visible()
    assert harmless(page)
    files.set_input_files({"name": "big.bmp", "mimeType": "image/bmp", "buffer": bytes(11_000_000)})
    expect(page.get_by_text("10.0MB or smaller").first).to_be_visible()
    many = [{"name": f"{n}.bmp", "mimeType": "image/bmp", "buffer": b"BM no image"} for n in range(8)]
    files.set_input_files(many)
    expect(page.get_by_text("more files could not be read").first).to_be_visible()
    assert "import" not in said(page).lower()


@pytest.mark.parametrize("name", ADDRESSES)
def test_paths_and_scripts_in_every_parameter_of_an_address_get_a_sentence_at_most(visitor, demo_server, name):
    page, server = visitor, demo_server
    for value in (PATHS, HOSTILE):
        query = "&".join(f"{key}={quote(value, safe='')}" for key in ADDRESSES[name].split())
        page.goto(f"{server.url}/{name}?{query}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        text = said(page)
        assert harmless(page)
        assert not page.locator("[data-testid=stException]").count()
        assert "root:" not in text and str(server.folder) not in text and str(ROOT) not in text


# ------------------------------------------------------------------------------------------ a class with accounts

PEOPLE = [
    {"sub": "1", "name": "Ana Lovelace", "email": "ana@school.test", "email_verified": True},
    {"sub": "2", "name": "Ben", "email": "ben@school.test", "email_verified": True},
    {"sub": "3", "name": "Ms T", "email": "t@school.test", "email_verified": True},
]


@pytest.fixture
def class_server(tmp_path, drawn_demo):
    provider = Provider(PEOPLE)
    names = {"LEUKODASH_CLASS": "1", "LEUKODASH_TEACHERS": "t@school.test"}
    server = server_in(tmp_path, drawn_demo, STREAMLIT_SECRETS_FILES=str(tmp_path / "secrets.toml"), **names)
    (tmp_path / "secrets.toml").write_text(provider.secrets(server.url))
    server.start()
    yield server
    server.end()
    provider.close()


def enter(page, server, name):
    """Sign in with an account at the provider, and open the train page."""
    page.goto(f"{server.url}/train")
    expect(page.get_by_role("button", name=START)).to_be_disabled()
    page.locator("[class*=st-key-sign-in-] button").first.click()
    page.get_by_role("link", name=name).click()
    expect(page.locator(".st-key-person-menu")).to_contain_text(name)
    page.goto(f"{server.url}/train?epochs=10000")
    expect(page.get_by_role("button", name=START)).to_be_enabled()


def test_two_students_and_a_teacher_sign_in_with_accounts(browser, class_server):
    server = class_server
    with browser_of(browser) as ana, browser_of(browser) as ben, browser_of(browser, "phone") as teacher:
        runs = {}
        for page, name in ((ana, "Ana Lovelace"), (ben, "Ben")):
            enter(page, server, name)
            page.get_by_role("button", name=START).click()
            until(page, lambda: len(server.runs()) == len(runs) + 1, PAGE_SECONDS)
            runs[name] = server.runs()[0]
        enter(teacher, server, "Ms T")
        assert {name: run.about["owner"] for name, run in runs.items()} == {name: name for name in runs}
        assert len({run.by for run in runs.values()}) == 2
        anas, bens = runs.values()

        def stop(page, run):
            return page.locator(f".st-key-stop-{run.id}").get_by_role("button")

        expect(stop(ben, bens)).to_be_enabled()
        expect(stop(ben, anas)).to_be_disabled()  # seen, with its owner, and not to be changed
        expect(ben.get_by_text("by Ana Lovelace").first).to_be_visible()
        for run in (anas, bens):
            expect(stop(teacher, run)).to_be_enabled()
        assert fits(teacher)
        stop(teacher, anas).click()
        until(teacher, lambda: anas.state == "stopped")
        stop(ben, bens).click()
        until(ben, lambda: bens.state == "stopped")

        def menu(page, run, shown):
            click_until(page, page.locator(f".st-key-more-{run.id}").get_by_role("button").first.click, shown)

        menu(ben, anas, ben.get_by_text("is another person's run and cannot be deleted by you"))
        expect(ben.locator(f".st-key-delete-{anas.id}")).to_have_count(0)
        expect(ben.locator(f".st-key-resume-{anas.id}").get_by_role("button")).to_be_disabled()
        ben.keyboard.press("Escape")
        remove = ben.locator(f".st-key-delete-{bens.id} button")
        menu(ben, bens, remove)
        remove.click()
        until(ben, lambda: [run.id for run in server.runs()] == [anas.id], PAGE_SECONDS)
        remove = teacher.locator(f".st-key-delete-{anas.id} button")
        menu(teacher, anas, remove)
        remove.click()
        until(teacher, lambda: not server.runs(), PAGE_SECONDS)
        teacher.locator(f".st-key-undo-{anas.id} button").click()
        until(teacher, lambda: server.runs() == [anas], PAGE_SECONDS)

        ana.reload()
        expect(ana.locator(f".st-key-resume-{anas.id} button")).to_be_enabled()
        click_until(
            ana, ana.locator(".st-key-person-menu").get_by_role("button").first.click, ana.locator(".st-key-sign-out")
        )
        ana.locator(".st-key-sign-out button").click()
        expect(ana.locator("[class*=st-key-sign-in-] button").first).to_be_visible()
        ana.goto(f"{server.url}/train")
        expect(ana.get_by_role("button", name=START)).to_be_disabled()
        expect(ana.locator(f".st-key-more-{anas.id}")).to_have_count(0)
