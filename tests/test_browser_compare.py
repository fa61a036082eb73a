"""A click on a square of a confusion matrix, in a real browser, opens the cells behind it."""

import re

import pytest
from app import settled
from made_runs import made_run

from benchmarks.server import Server
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.split import Split, make_split

pytestmark = pytest.mark.browser


@pytest.fixture
def app(tmp_path):
    """The app over two made runs on real image files."""
    dataset = load_dataset(make_demo(tmp_path / "data" / "demo", cells=120, subjects=12))
    cells = dataset.cells.assign(part=make_split(dataset.cells, Split(kind="subject")))
    config = {"data": str(dataset.root)}
    for seed, backbone in enumerate(("vgg16", "mobilenet")):
        made_run(backbone, cells=cells.drop(columns="fold"), seed=seed, skill=0.5, config=config)
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_a_click_on_a_square_opens_its_images(app, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 2400})
    page = context.new_page()
    page.goto(app.url)
    page.get_by_text("Compare").first.click()
    page.get_by_text("Confusion matrices").wait_for(timeout=60_000)
    settled(page)
    for plot in page.locator(".st-key-confusion-MobileNet .js-plotly-plot").all():
        squares = plot.locator(".textpoint")  # in the order blast·blast, blast·normal, normal·blast, normal·normal
        box = squares.nth(2).bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text(re.compile(r"normal cells that MobileNet predicts as ALL blast")).wait_for(timeout=15_000)
    settled(page)
    said = page.get_by_text(re.compile(r"normal cells that MobileNet predicts as ALL blast")).inner_text()
    count = int(said.split()[0])
    assert count > 0
    assert page.get_by_role("img", name=re.compile("^Cell, normal")).count() == min(count, 14)
    context.close()
