"""The train page in a real browser: a sweep from start to end, zoom that stays, and a server that is killed."""

import re
import time

import pytest
from app import SIZES, settled

from benchmarks.server import Server

pytestmark = pytest.mark.browser

PATIENCE = 300  # seconds
# What a zoom and its chart are: the node (marked by the test), the axes' ranges, the points, the seconds on screen.
CHART = """() => {
  const chart = document.querySelector('.st-key-curve-accuracy .js-plotly-plot');
  const { xaxis, yaxis } = chart._fullLayout;
  return { marked: !!chart.marked, x: xaxis.range, y: yaxis.range, points: chart.data[0].x.length };
}"""
WATCH = """() => {
  const chart = document.querySelector('.st-key-curve-accuracy .js-plotly-plot');
  chart.marked = true;
  window.blinks = 0;
  window.frames_seen = 0;
  const look = () => {
    const now = document.querySelector('.st-key-curve-accuracy .js-plotly-plot');
    const line = now && now.querySelector('.scatterlayer .js-line');
    window.frames_seen += 1;
    if (!now || !now.marked || !line || getComputedStyle(now).opacity !== '1') window.blinks += 1;
    requestAnimationFrame(look);
  };
  look();
}"""


@pytest.fixture
def server(tmp_path, request):
    server = Server(tmp_path, **getattr(request, "param", {}))
    server.start()
    yield server
    server.end()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport=SIZES["desktop"])
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name=re.compile("Start$")).wait_for()
    settled(page)
    yield page
    context.close()


def until(page, condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        page.wait_for_timeout(100)


def tick(page, name):
    page.locator(f".st-key-use-{name}").get_by_text(re.compile(".")).first.click()
    settled(page)


def number(page, label, value):
    field = page.get_by_role("spinbutton", name=label)
    field.fill(str(value))
    field.press("Enter")
    settled(page)


def vary(page, setting, values):
    page.get_by_text("Try several values").click()
    box = page.locator(".st-key-vary").get_by_role("combobox")
    box.click()
    page.wait_for_timeout(800)  # the list opens, and would throw away what is typed before it has
    box.fill(setting)
    page.locator("[role=option]", has_text=re.compile(f"^{setting}$")).click()
    settled(page)
    field = page.get_by_role("textbox", name="Values")
    field.fill(values)
    field.press("Enter")
    settled(page)


def no_error_on(page):
    assert page.locator("[data-testid=stException]").count() == 0


def menu(page, run, item):
    page.locator(f".st-key-more-{run.id} button").first.click()
    page.locator(f".st-key-{item}-{run.id} button").click()


def of(server, backbone, rate):
    return next(run for run in server.runs() if (run.config.backbone, run.config.learning_rate) == (backbone, rate))


def test_a_sweep_is_started_watched_stopped_resumed_changed_and_deleted(page, server):
    tick(page, "alexnet")
    vary(page, "Learning rate", "0.01, 0.001, 0.0001")
    assert "about" in page.inner_text("body")
    page.get_by_role("button", name=re.compile("Start 6 runs")).click()
    until(page, lambda: len(server.runs()) == 6, 30)
    titles = {run.title for run in server.runs()}
    assert "AlexNet · learning rate 0.001" in titles and len(titles) == 6

    page.get_by_text("AlexNet · learning rate 0.0001").first.wait_for()  # the last in line is listed, with its place
    page.get_by_text("starts in about").first.wait_for()
    last = of(server, "alexnet", 0.0001)
    page.locator(f".st-key-stop-{last.id} button").click()
    until(page, lambda: last.state == "stopped", 15)
    page.locator(f".st-key-resume-{last.id} button").click()
    until(page, lambda: last.state in ("queued", "running"), 15)

    page.locator(".st-key-curve-accuracy .js-plotly-plot .scatterlayer .js-line").first.wait_for(timeout=120_000)
    until(page, lambda: all(run.state == "finished" for run in server.runs()))
    page.get_by_text("Runs so far").wait_for()
    settled(page)
    no_error_on(page)
    order = sorted(server.runs(), key=lambda run: run.status["started"])
    assert [run.config.backbone for run in order] == ["mobilenet"] * 3 + ["alexnet"] * 3
    assert sum(run.metrics["features_computed"] for run in order) == 2

    menu(page, last, "again")
    settled(page)
    number(page, "Epochs", 3)
    page.get_by_role("button", name=re.compile("Start$")).click()
    until(page, lambda: len(server.runs()) == 7 and server.runs()[0].state == "finished")
    assert server.runs()[0].config == last.config.changed(epochs=3)
    settled(page)

    menu(page, last, "delete")
    page.get_by_text("was deleted").wait_for()
    assert len(server.runs()) == 6
    page.get_by_role("button", name="Undo").click()
    until(page, lambda: len(server.runs()) == 7, 10)
    settled(page)
    no_error_on(page)


def test_curves_are_updated_without_a_blink_and_keep_the_zoom(page, server, tmp_path):
    tick(page, "alexnet")
    tick(page, "mobilenet")
    number(page, "Epochs", 100)
    number(page, "Input size", 64)
    page.get_by_text("All settings").click()
    page.get_by_role("tab", name="Augmentation").click()
    number(page, "Brightness", 0.1)  # the whole network in each epoch, so that an epoch takes a second
    page.get_by_text("All settings").click()
    page.get_by_role("button", name=re.compile("Start$")).click()
    page.locator(".st-key-curve-accuracy .js-plotly-plot .scatterlayer .js-line").first.wait_for(timeout=120_000)
    until(page, lambda: len(server.runs()[0].history) > 5)
    page.wait_for_timeout(1500)
    page.evaluate(WATCH)
    plot = page.locator(".st-key-curve-accuracy .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.7, steps=6)
    page.mouse.up()
    page.wait_for_timeout(500)
    before = page.evaluate(CHART)
    page.screenshot(path=tmp_path / "zoom-before.png")
    page.wait_for_timeout(8000)
    after = page.evaluate(CHART)
    page.screenshot(path=tmp_path / "zoom-after.png")
    print(before, after, page.evaluate("[window.blinks, window.frames_seen]"), tmp_path)
    assert before["x"][0] > 0.5  # it is a zoom
    assert after["points"] > before["points"]
    assert (after["x"], after["y"], after["marked"]) == (before["x"], before["y"], True)
    assert page.evaluate("window.blinks") == 0
    assert page.evaluate("window.frames_seen") > 60
    server.runs()[0].path.joinpath("stop").touch()


@pytest.mark.parametrize("server", [{"LEUKODASH_CPU_SLOTS": "3", "CUDA_VISIBLE_DEVICES": "-1"}], indirect=True)
def test_a_killed_server_takes_no_run_with_it(page, server, browser):
    tick(page, "alexnet")
    tick(page, "mobilenet")
    number(page, "Epochs", 400)
    vary(page, "Seed", "1, 2, 3, 4, 5, 6, 7, 8")
    page.get_by_role("button", name=re.compile("Start 8 runs")).click()

    def states():
        return sorted(run.state for run in server.runs())

    until(page, lambda: states() == ["queued"] * 5 + ["running"] * 3, 60)
    page.goto("about:blank")
    pids = {run.id: run.status["pid"] for run in server.runs() if run.status.get("pid")}
    server.kill()
    assert states().count("lost") == 0
    server.start()
    page.goto(server.url)
    page.get_by_text("How is it learning?").wait_for()
    settled(page)
    assert set(states()) <= {"queued", "running", "finished"}
    hidden, finished = page.locator(".st-key-more-live"), page.locator("[class*='st-key-more-2']").count()
    listed = page.locator("[class*='st-key-stop-2']").count() + finished
    assert listed + (int(hidden.inner_text().split()[0]) if hidden.count() else 0) == 8
    until(page, lambda: states() == ["finished"] * 8)
    assert {run.id: run.status["pid"] for run in server.runs()}.items() >= pids.items()  # the same processes
    page.get_by_text("Runs so far").wait_for()
    settled(page)
    assert page.locator("[class*='st-key-more-2']").count() >= 6
    no_error_on(page)
