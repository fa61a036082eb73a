"""What a newcomer does in a real browser: train the demo, watch, look at the data, compare, classify a file.

With ``--screenshots`` (``make screenshots``) it writes the README's, ``docs/screenshots``: desktop and phone, light and
dark.
"""

import io
from pathlib import Path

import pytest
from app import RUN_SECONDS, SIZES, START, expect, fits, server_with, still
from PIL import Image

from benchmarks.server import ROOT, Server
from leukodash.data.demo_cells import make_demo

pytestmark = pytest.mark.browser

FIRST_POINT = """() => [...document.querySelectorAll('.st-key-curve-accuracy .js-plotly-plot')].some(
  (plot) => plot.data && plot.data.some((trace) => trace.x?.length && trace.y.some((value) => value !== null)))"""


@pytest.fixture
def server(tmp_path, drawn_demo, pretend_weights_folder):
    server = server_with(tmp_path, drawn_demo, pretend_weights_folder)
    yield server
    server.end()


@pytest.fixture
def look(page, request):
    """Return a function that checks the width of the page on desktop and phone, and keeps pictures where asked to."""

    def look(name, ready):
        for size, viewport in reversed(SIZES.items()):
            page.set_viewport_size(viewport)
            still(page)
            assert fits(page), f"{name} is wider than {size}"
            for scheme in ("light", "dark") if request.config.getoption("--screenshots") else ():
                page.emulate_media(color_scheme=scheme)
                page.reload()
                expect(ready).to_be_visible()
                still(page)
                picture = Image.open(io.BytesIO(page.screenshot()))
                target = ROOT / "docs" / "screenshots" / f"{name}-{size}-{scheme}.png"
                picture.quantize(256).save(target, optimize=True)

    return look


@pytest.fixture
def shipped(tmp_path, drawn_demo):
    """A server without weights of its own, with what comes with LeukoDash: a visitor's."""
    published = str(ROOT / "checkpoints" / "published")
    server = Server(tmp_path, LEUKODASH_WEIGHTS="", LEUKODASH_PUBLISHED=published)
    server.start()
    yield server
    server.end()


def test_a_visitor_on_a_phone_sees_an_answer_tries_a_cell_and_compares(page, shipped, look):
    def tap(name):
        page.get_by_role("button", name=name, exact=True).click()

    page.set_viewport_size(SIZES["phone"])
    page.goto(shipped.url)
    answer = page.get_by_text("MobileNet: ", exact=False).first
    expect(page.get_by_role("img", name="A white blood cell on black")).to_be_visible()
    before = answer.inner_text()
    expect(page.get_by_test_id("stMain")).to_contain_text("Two papers report up to 93%")
    look("home", answer)
    page.set_viewport_size(SIZES["phone"])
    for _ in range(3):  # the answer to some cell is another one
        tap("Another cell")
        still(page)
    assert answer.inner_text() != before
    tap("Try a cell")
    tap("Cell 1")
    expect(page.get_by_role("img", name="Heat map of")).to_have_count(1)
    expect(page.get_by_text("on cell").first).to_be_visible()
    assert fits(page)
    page.reload()  # the address holds what was picked
    expect(page.get_by_role("img", name="Heat map of")).to_have_count(1)
    page.goto(shipped.url)
    tap("See which network is better")
    expect(page.get_by_test_id("stMain")).to_contain_text("3,527 images of 25 subjects")
    assert fits(page)
    assert "tensorflow" not in Path(f"/proc/{shipped.process.pid}/maps").read_text()


def test_a_newcomer_trains_compares_and_classifies(page, server, look):
    def go_to(name):
        page.get_by_test_id("stTopNav").get_by_role("link", name=name).click()

    page.goto(server.url)
    page.get_by_role("button", name="Train one").click()
    page.get_by_role("button", name=START).click()
    page.wait_for_function(FIRST_POINT, timeout=1000 * RUN_SECONDS)
    page.reload()  # loses nothing
    (run,) = server.runs()
    ended = page.locator(f".st-key-more-{run.id}")
    expect(ended).to_be_visible(timeout=1000 * RUN_SECONDS)
    assert run.state == "finished"
    look("train", page.locator(".st-key-curve-accuracy .legend"))

    go_to("Data")
    subjects = page.get_by_text("subjects").first
    expect(subjects).to_be_visible()
    expect(page.get_by_text("600 cells").first).to_be_visible()
    look("data", subjects)

    go_to("Compare")
    intervals = page.locator(".st-key-forest .js-plotly-plot").first
    expect(intervals).to_be_visible()
    expect(page.get_by_test_id("stMain")).to_contain_text(f"classifies {run.metrics['correct']} of")
    look("compare", intervals)

    go_to("Classify")
    page.get_by_role("button", name="Cell 1", exact=True).click()
    heat_map = page.get_by_role("img", name="Heat map of")
    expect(heat_map).to_have_count(1)
    page.keyboard.press("Tab")  # to the next cell: the clicked one has kept the focus
    page.keyboard.press("Enter")
    expect(heat_map).to_have_count(2)
    look("classify", heat_map.first)
    page.get_by_role("button", name="Clear").click()
    expect(heat_map).to_have_count(0)
    cell = next(make_demo(server.folder / "mine", cells=24, subjects=6).rglob("*_all.png"))
    page.get_by_text("Your own cells").click()
    page.locator("input[type=file]").first.set_input_files(cell)
    picture = page.get_by_role("img", name=f"Cell {cell.name}")
    expect(picture).to_be_visible()
    go_to("Data")
    expect(subjects).to_be_visible()
    go_to("Classify")
    expect(picture).to_be_visible()
