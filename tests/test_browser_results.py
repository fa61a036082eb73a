"""Finished runs in a real browser: files are classified and saved, a smear is cut up, a matrix opens its cells.

One server for all tests, over a run that is trained here from random weights, and two made ones, on few drawn cells.
"""

import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from app import click_until, expect, fits, server_with
from made_runs import made_run
from trained_runs import train_here

from leukodash.data.dataset import load_dataset
from leukodash.data.split import Split, make_split

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def app(tmp_path_factory, drawn_demo, pretend_weights_folder):
    """The app; `app.run` is the trained run."""
    folder = tmp_path_factory.mktemp("app")
    settings = {"weights": "random", "input_size": 64, "batch_size": 8, "backbone": "alexnet", "epochs": 4}
    run = train_here(folder, cells=120, subjects=12, **settings)
    dataset = load_dataset(run.config.data)
    cells = dataset.cells.drop(columns="fold").assign(part=make_split(dataset.cells, Split(kind="subject")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEUKODASH_CHECKPOINTS", str(folder / "checkpoints"))
        made = made_run(cells=cells, skill=0.5, config={"data": str(dataset.root)})
    server = server_with(folder, drawn_demo, pretend_weights_folder)
    server.run, server.made = run, made
    yield server
    server.kill()


@pytest.fixture
def classify(app, page):
    """Return a function that uploads files on the Classify page of the trained run."""

    def upload(*files):
        page.goto(f"{app.url}/classify?runs={app.run.id}")
        page.get_by_text("Your own cells").click()
        page.locator("input[type=file]").first.set_input_files(files)

    return upload


def predicted(run):
    """Predictions of a run's test cells, with their paths."""
    rows = run.predictions.query("part == 'test'")
    return rows.assign(path=[Path(run.config.data) / file for file in rows["file"]])


def smear(path):
    """Red cells on a bright ground, and two white cells with violet nuclei."""
    rng = np.random.default_rng(0)
    picture = np.full((480, 640, 3), (226, 222, 228), np.uint8)
    for y in range(40, 480, 78):
        for x in range(40, 640, 80):
            center = int(x + rng.integers(-8, 9)), int(y + rng.integers(-8, 9))
            cv2.circle(picture, center, 30, (208, 148, 158), -1)
            cv2.circle(picture, center, 10, (220, 172, 180), -1)
    for center in ((200, 196), (440, 274)):
        cv2.circle(picture, center, 52, (226, 222, 228), -1)
        cv2.circle(picture, center, 44, (176, 150, 206), -1)
        cv2.circle(picture, center, 34, (104, 58, 158), -1)
    cv2.imwrite(str(path), cv2.GaussianBlur(picture, (5, 5), 0)[..., ::-1])
    return path


def shown_cells(page, name=""):
    """The pictures of uploaded cells, beside which stand the heat maps."""
    return page.get_by_role("img", name=f"Cell {name}")


def test_one_cell_gets_its_class_and_a_map_and_both_can_be_saved(app, page, classify):
    cell = predicted(app.run).iloc[0]
    classify(cell["path"])
    expect(shown_cells(page, cell["path"].name)).to_have_count(1)
    expect(page.get_by_role("img", name=re.compile("^Heat map of AlexNet: evidence for"))).to_have_count(1)
    assert fits(page)
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Table (CSV)").click()
    assert pd.read_csv(download.value.path())["p_all"][0] == pytest.approx(cell["p_all"], abs=1e-5)
    page.get_by_role("button", name=re.compile(r"Heat maps \(1 picture")).click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Heat maps .ZIP")).click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == [f"{cell['path'].stem}.{app.run.id}.png"]


def test_many_cells_are_a_table_or_pages_of_cards_and_a_bad_file_gets_a_sentence(page, app, classify, tmp_path):
    (tmp_path / "notes.png").write_text("not an image")
    classify(tmp_path / "notes.png", *predicted(app.run)["path"].head(14))
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    expect(shown_cells(page)).to_have_count(0)
    page.get_by_role("radio", name="Cards").click()
    expect(shown_cells(page)).to_have_count(12)
    expect(page.get_by_test_id("stAlert")).to_contain_text("'notes.png' is")
    page.get_by_role("button", name="Page 2").click()
    expect(shown_cells(page)).to_have_count(2)


def test_a_smear_is_classified_cell_by_cell(page, classify, tmp_path):
    classify(smear(tmp_path / "slide.png"))
    expect(shown_cells(page, "slide.png, cell")).to_have_count(2)
    expect(page.get_by_text(re.compile("smear with 2 white cells"))).to_be_visible()


def test_a_click_on_a_square_of_a_confusion_matrix_opens_its_images(app, page):
    page.set_viewport_size({"width": 1280, "height": 2400})
    page.goto(f"{app.url}/compare?runs={app.made.id}&tab=Mistakes")
    squares = page.locator(".st-key-confusion-MobileNet .js-plotly-plot .textpoint")
    opened = page.get_by_text(re.compile("normal cells that MobileNet predicts as ALL blast"))
    expect(squares).to_have_count(4)  # blast·blast, blast·normal, normal·blast, normal·normal

    def click():
        box = squares.nth(2).bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    click_until(page, click, opened)
    count = int(opened.inner_text().split()[0])
    assert count > 0
    expect(page.get_by_role("img", name=re.compile("^Cell, normal"))).to_have_count(min(count, 14))


def test_runs_ticked_in_the_table_are_compared_until_back_and_after_a_visit_to_another_page(app, page):
    page.goto(app.url)
    page.get_by_role("link", name="Compare", exact=True).click()
    verdict = page.get_by_test_id("stMain").get_by_role("heading", level=3).first
    expect(verdict).to_contain_text("AlexNet")
    page.get_by_role("button", name="Choose runs").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Untick all").click()
    expect(dialog.get_by_role("button", name="Compare 0 runs")).to_be_disabled()
    dialog.get_by_role("textbox", name="Search").fill("mobilenet")
    page.keyboard.press("Enter")
    table = dialog.get_by_test_id("stDataFrame")
    one = dialog.get_by_role("button", name="Compare 1 run", exact=True)
    expect(table.locator("td", has_text=re.compile("^(AlexNet|MobileNet)$"))).to_have_text(["MobileNet"])

    def tick():
        if not one.is_visible():
            box = table.bounding_box()
            page.mouse.click(box["x"] + 15, box["y"] + 50)

    click_until(page, tick, one)
    one.click()
    expect(verdict).to_contain_text("MobileNet classifies")
    expect(page).to_have_url(f"{app.url}/compare?runs={app.made.id}")
    page.go_back()
    expect(page).to_have_url(f"{app.url}/compare")
    expect(verdict).to_contain_text("AlexNet")
    page.go_forward()
    expect(verdict).to_contain_text("MobileNet classifies")
    page.get_by_role("link", name="Lesson", exact=True).click()
    expect(page.get_by_role("button", name="Choose runs")).to_have_count(0)
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(verdict).to_contain_text("MobileNet classifies")
