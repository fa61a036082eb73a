"""What a newcomer does, in a real browser: train the demo, watch, compare, classify a file. Leaves the screenshots.

The screenshots of the README, ``docs/screenshots``, come from here: desktop and phone, light and dark.
"""

import io
import re
import time

import pytest
from app import SIZES, settled
from PIL import Image

from benchmarks.server import ROOT, Server
from leukodash.data.demo_cells import make_demo

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "docs" / "screenshots"
PATIENCE = 240_000  # ms; a run from random weights on two busy cores


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("app"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport=SIZES["desktop"])
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def shoot(browser, server, name, path, ready):
    """Open a page anew at each size and scheme, wait until it is ready, and keep a small picture of it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for size, viewport in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport=viewport, color_scheme=scheme)
            page = context.new_page()
            page.goto(f"{server.url}/{path}")
            page.get_by_text(ready).first.wait_for(timeout=60_000)
            settled(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {size}"
            picture = Image.open(io.BytesIO(page.screenshot(full_page=False)))
            picture.quantize(128).save(SCREENSHOTS / f"{name}-{size}-{scheme}.png", optimize=True)
            context.close()


def no_error_on(page):
    assert page.locator("[data-testid=stException]").count() == 0


def test_a_newcomer_trains_compares_and_classifies(page, browser, server):
    page.goto(server.url)
    start = page.get_by_role("button", name=re.compile("^.*Start$"))
    start.wait_for(timeout=60_000)
    clicked = time.monotonic()
    start.click()
    page.wait_for_function(  # the first point of a curve
        "() => [...document.querySelectorAll('.js-plotly-plot')].some("
        "p => p.data && p.data.some(t => t.x && t.x.length && t.y.some(v => v !== null)))",
        timeout=60_000,
    )
    first_point = time.monotonic() - clicked
    page.reload()  # loses nothing
    page.get_by_text("Runs so far").wait_for(timeout=PATIENCE)
    print(f"first point after {first_point:.0f} s, finished after {time.monotonic() - clicked:.0f} s")
    (run,) = server.runs()
    assert run.state == "finished"
    no_error_on(page)
    shoot(browser, server, "train", "", "Runs so far")

    page.get_by_test_id("stTopNav").get_by_role("link", name="Compare").click()
    page.get_by_text("Confusion matrices").wait_for()
    settled(page)
    no_error_on(page)
    assert f"{run.metrics['correct']}" in page.inner_text("body")
    shoot(browser, server, "compare", "compare", "Confusion matrices")

    page.get_by_test_id("stTopNav").get_by_role("link", name="Classify").click()
    page.locator("input[type=file]").first.wait_for(state="attached")
    cell = next((make_demo(server.folder / "mine", cells=24, subjects=6)).rglob("*_all.png"))
    page.locator("input[type=file]").first.set_input_files(cell)
    page.get_by_text("Heat map", exact=True).first.wait_for(timeout=90_000)
    settled(page)
    no_error_on(page)
    assert page.get_by_alt_text("Where ").count() or page.locator("img").count() >= 2
    shoot(browser, server, "classify", "classify?samples=4", "Heat map")


def test_the_data_page_shows_the_cells_and_finds_no_leak(page, browser, server):
    page.goto(f"{server.url}/data")
    settled(page)
    no_error_on(page)
    assert "600" in page.inner_text("body")
    shoot(browser, server, "data", "data", "subject")


def test_a_run_outlives_the_tab_and_the_server_and_is_shown_again(page, server):
    page.goto(f"{server.url}/?preset=quick")
    start = page.get_by_role("button", name=re.compile("^.*Start$"))
    start.wait_for()
    settled(page)
    start.click()
    page.wait_for_timeout(500)
    for _ in range(100):
        if any(run.status["state"] in ("queued", "running") for run in server.runs()):
            break
        page.wait_for_timeout(100)
    run = server.runs()[0]
    page.goto("about:blank")  # the tab is gone
    server.kill()
    assert run.alive()
    server.start()
    assert run.alive() or run.state == "finished"
    page.goto(f"{server.url}/data")  # a link to a page, the first that this server hears of
    page.get_by_test_id("stTopNav").get_by_role("link", name="Train").click(timeout=60_000)
    page.get_by_text("How is it learning?").wait_for(timeout=60_000)
    for _ in range(PATIENCE // 100):
        if run.state == "finished":
            break
        assert run.state in ("queued", "running")
        page.wait_for_timeout(100)
    page.get_by_text(run.title).first.wait_for()
    assert run.metrics["n"] == run.split["part"].eq("test").sum()
    no_error_on(page)


def test_a_file_that_is_no_image_gets_one_sentence_and_the_others_are_classified(page, server, tmp_path):
    page.goto(f"{server.url}/classify")
    page.locator("input[type=file]").first.wait_for(state="attached")
    (tmp_path / "notes.png").write_text("not an image")
    cell = next((server.folder / "mine").rglob("*_hem.png"))
    page.locator("input[type=file]").first.set_input_files([tmp_path / "notes.png", cell])
    page.get_by_text("Heat map", exact=True).first.wait_for(timeout=90_000)
    settled(page)
    no_error_on(page)
    assert page.get_by_test_id("stAlert").count() == 1
    assert "notes.png" in page.get_by_test_id("stAlert").inner_text()
