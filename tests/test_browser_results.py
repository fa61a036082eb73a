"""The classify page in a real browser: one cell, many, runs that disagree, no cell at all, a whole smear.

One server for all, over a run that is trained in this process from random weights on a few generated cells. Each test
leaves a screenshot in its folder.
"""

import re
import shutil
import zipfile

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from app import SIZES, settled
from trained_runs import train_here

from benchmarks.server import Server
from leukodash.runs.run_folder import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 90_000  # ms


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The app over a finished run and its leaning twin; `app.ids` are theirs."""
    folder = tmp_path_factory.mktemp("app")
    settings = {"weights": "random", "input_size": 64, "batch_size": 8, "backbone": "alexnet", "epochs": 4}
    run = train_here(folder, cells=120, subjects=12, **settings)
    server = Server(folder, KERAS_HOME=str(folder / "keras"))
    server.ids = [run.id, leaning_twin(run).id]
    server.start()
    yield server
    server.kill()


def leaning_twin(run):
    """Copy a run, and move its logits so far that half of what it calls one class falls to the other."""
    twin = Run(run.path.with_name(f"{run.id[:-4]}beef"))
    shutil.copytree(run.path, twin.path)
    table = run.predictions
    score = np.log(table["p_all"] / table["p_hem"])  # of a blast against a normal cell
    common = score[(score > 0) == (score > 0).mode()[0]]
    shift = -common.median()
    table["p_all"] = 1 / (1 + np.exp(-(score + shift)))
    table.assign(p_hem=1 - table["p_all"]).to_csv(twin.path / "predictions.csv", index=False)
    with h5py.File(twin.path / "trained.weights.h5", "r+") as file:
        last = file[max(file, key=int)]
        last["1"][...] += np.array([shift, 0], np.float32)
    return twin


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=SIZES["desktop"], accept_downloads=True)
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def shown(page, tmp_path, request):
    """Wait until the page stands, check that it is whole, and keep a picture of it."""

    def look():
        settled(page)
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / f"{request.node.name}.png", full_page=True)
        return page.inner_text("[data-testid=stMain]")

    return look


def upload(page, *files):
    page.locator("input[type=file]").first.wait_for(state="attached", timeout=PATIENCE)
    settled(page)
    page.locator("input[type=file]").first.set_input_files(files)


def unseen(app, run_id):
    """Paths and predictions of a run's test cells."""
    run = Run(app.folder / "checkpoints" / run_id)
    rows = run.predictions.query("part == 'test'")
    return rows.assign(path=[app.folder / "data" / "demo" / file for file in rows["file"]])


def photograph(path):
    """A picture of hills under a sky: nothing in it resembles a cell on black."""
    y, x = np.mgrid[0:300, 0:400]
    picture = np.stack([120 + y / 4, 170 - y / 5, 230 - y / 3], axis=-1)
    hills = y > 180 + 40 * np.sin(x / 37) + 15 * np.sin(x / 11)
    picture[hills] = np.stack([60 + x / 9, 110 + 30 * np.sin(x / 5 + y / 7), 40 + y / 9], axis=-1)[hills]
    cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8)[..., ::-1])
    return path


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


def test_one_cell_gets_its_class_a_map_and_files_to_take_along(app, page, shown, tmp_path):
    newest = app.ids[0]
    cell = unseen(app, newest).iloc[0]
    page.goto(f"{app.url}/classify?runs={newest}")
    upload(page, cell["path"])
    page.get_by_text(re.compile(r"^1 (cell: 1|image is unlike)")).wait_for(timeout=PATIENCE)
    said = shown()
    assert cell["path"].name in said
    assert page.get_by_role("img", name=re.compile("^Heat map of AlexNet: evidence for")).count() == 1
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Table (CSV)").click()
    table = pd.read_csv(download.value.path())
    assert table["p_all"][0] == pytest.approx(cell["p_all"], abs=1e-5)
    page.get_by_role("button", name=re.compile(r"Heat maps \(1 picture")).click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Heat maps .ZIP")).click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == [f"{cell['path'].stem}.{newest}.png"]


def test_many_cells_are_paged_and_a_file_that_is_none_gets_a_sentence(app, page, shown, tmp_path):
    cells = unseen(app, app.ids[0])["path"].head(14).tolist()
    (tmp_path / "notes.png").write_text("not an image")
    page.goto(f"{app.url}/classify?runs={app.ids[0]}")
    upload(page, tmp_path / "notes.png", *cells)
    page.get_by_text(re.compile(r"^\d+ cells: ")).wait_for(timeout=PATIENCE)
    said = shown()
    assert "'notes.png' is" in said
    assert page.get_by_role("img", name=re.compile("^Cell ")).count() == 12
    page.get_by_role("button", name="Page 2").click()
    page.wait_for_function("document.querySelectorAll('img[alt^=\"Cell \"]').length == 2")


def test_runs_that_disagree_are_shown_first_with_their_average(app, page, shown):
    one, two = (unseen(app, run_id) for run_id in app.ids)
    other = one.merge(two, on="file", suffixes=("", "_other"))
    apart = other[(other["p_all"] > 0.5) != (other["p_all_other"] > 0.5)]
    alike = other[(other["p_all"] > 0.5) == (other["p_all_other"] > 0.5)]
    for run_id in app.ids:  # so few cells: what is unlike them is another test's business
        shutil.move(app.folder / "checkpoints" / run_id / "novelty.npz", app.folder / f"{run_id}.npz")
    try:
        page.goto(f"{app.url}/classify?runs={','.join(app.ids)}")
        upload(page, *alike["path"].head(3), apart["path"].iloc[0])
        page.get_by_text(re.compile("the 2 runs disagree on 1")).wait_for(timeout=PATIENCE)
        said = shown()
    finally:
        for run_id in app.ids:
            shutil.move(app.folder / f"{run_id}.npz", app.folder / "checkpoints" / run_id / "novelty.npz")
    cards = said[said.index("the 2 runs disagree on 1") :]
    assert cards.index(apart["path"].iloc[0].name) < cards.index(alike["path"].iloc[0].name)
    assert cards.count("runs disagree\n") == 1
    assert said.count("Average of the runs") == 4


def test_a_photograph_is_no_cell(app, page, shown, tmp_path):
    page.goto(f"{app.url}/classify?runs={app.ids[0]}")
    upload(page, photograph(tmp_path / "hills.png"))
    page.get_by_text("1 image is unlike the training cells: not counted.").wait_for(timeout=PATIENCE)
    said = shown()
    assert "this class means nothing" in said
    assert page.get_by_test_id("stProgress").count() == 0


def test_a_whole_smear_is_taken_cell_by_cell(app, page, shown, tmp_path):
    page.goto(f"{app.url}/classify?runs={app.ids[0]}")
    upload(page, smear(tmp_path / "slide.png"))
    page.get_by_text(re.compile("smear with 2 white cells")).wait_for(timeout=PATIENCE)
    page.get_by_role("img", name="Cell slide.png, cell 2").wait_for(timeout=PATIENCE)
    said = shown()
    assert "slide.png, cell 1" in said
    assert page.get_by_role("img", name=re.compile("^Cell slide.png, cell")).count() == 2
