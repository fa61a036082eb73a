"""The train page in a real browser: a sweep from start to end, zoom that stays, and a server that is killed."""

import re

import pytest
from app import PAGE_SECONDS, RUN_SECONDS, SIZES, START, click_until, expect, fits, server_with, still, until

from leukodash.data.demo_cells import RECORD, make_demo

pytestmark = pytest.mark.browser

# The accuracy chart: whether the node is the one that the test marked, the ranges of the axes, the number of points.
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
  const watch = () => {
    const now = document.querySelector('.st-key-curve-accuracy .js-plotly-plot');
    const line = now && now.querySelector('.scatterlayer .js-line');
    window.frames_seen += 1;
    if (!now || !now.marked || !line || getComputedStyle(now).opacity !== '1') window.blinks += 1;
    requestAnimationFrame(watch);
  };
  watch();
}"""


@pytest.fixture
def server(tmp_path, drawn_demo, pretend_weights_folder, request):
    """The app over few cells of its own, which the page offers first."""
    cells = make_demo(tmp_path / "data" / "cells", cells=60, subjects=12)
    (cells / RECORD).unlink()  # as if they were the user's own
    server = server_with(tmp_path, drawn_demo, pretend_weights_folder, **getattr(request, "param", {}))
    yield server
    server.end()


@pytest.fixture
def page(page, server):
    page.goto(f"{server.url}/train?backbones=alexnet")
    expect(page.get_by_role("button", name=START)).to_be_enabled()
    still(page)
    return page


def open_settings(page, tab):
    """Open the drawer with all settings, and one of its tabs."""
    tab = page.get_by_role("tab", name=tab)
    if not tab.is_visible():
        click_until(page, page.get_by_role("button", name="All settings").click, tab)
    tab.click()


def number(page, label, value, tab="Main"):
    open_settings(page, tab)
    field = page.get_by_role("spinbutton", name=label)
    field.fill(str(value))
    field.press("Enter")
    expect(page).to_have_url(re.compile(f"{label.lower().replace(' ', '_')}={value}(&|$)"))
    still(page)


def start(page, label=START):
    page.keyboard.press("Escape")  # the drawer may lie over the button
    page.get_by_role("button", name=label).click()


def vary(page, setting, values):
    open_settings(page, "Several values")
    box = page.locator(".st-key-vary").get_by_role("combobox")
    click_until(page, box.click, page.get_by_role("option"))  # until it opens, the list discards what is typed
    box.fill(setting)
    page.get_by_role("option", name=setting, exact=True).click()
    field = page.get_by_role("textbox", name="Values")
    field.fill(values)
    field.press("Enter")


def menu(page, run, item):
    entry = page.locator(f".st-key-{item}-{run.id} button")
    click_until(page, page.locator(f".st-key-more-{run.id} button").first.click, entry)
    entry.click()


def listed(page, runs):
    """Wait until each run stands below those under way."""
    for run in runs:
        expect(page.locator(f".st-key-more-{run.id}")).to_be_visible()


def wait_for_curve(page, points):
    page.wait_for_function(
        "points => document.querySelector('.st-key-curve-accuracy .js-plotly-plot')?.data?.[0]?.x.length >= points",
        arg=points,
        timeout=1000 * RUN_SECONDS,
    )


def test_a_sweep_is_started_watched_stopped_resumed_changed_and_deleted(page, server):
    vary(page, "Learning rate", "0.01, 0.001")
    start(page, re.compile("Start 2 runs$"))
    until(page, lambda: len(server.runs()) == 2, PAGE_SECONDS)
    runs = {run.title: run for run in server.runs()}
    assert set(runs) == {f"AlexNet · learning rate {rate}" for rate in (0.01, 0.001)}

    last = runs["AlexNet · learning rate 0.001"]  # its row says when it starts
    expect(page.locator(f".st-key-stop-{last.id} button")).to_be_visible()
    expect(page.get_by_text("starts in about").first).to_be_visible()
    page.locator(f".st-key-stop-{last.id} button").click()
    page.locator(f".st-key-resume-{last.id} button").click()
    wait_for_curve(page, 2)
    until(page, lambda: all(run.state == "finished" for run in server.runs()))
    listed(page, server.runs())
    assert sum(run.metrics["features_computed"] for run in server.runs()) == 1

    menu(page, last, "again")
    expect(page.get_by_text(f"Filled from {last.title}")).to_be_visible()
    number(page, "Epochs", 3)
    start(page)
    until(page, lambda: len(server.runs()) == 3, PAGE_SECONDS)
    assert server.runs()[0].config == last.config.changed(epochs=3)
    until(page, lambda: server.runs()[0].state == "finished")
    listed(page, server.runs())

    menu(page, last, "delete")
    page.get_by_role("button", name="Undo").click()
    listed(page, [last])
    assert len(server.runs()) == 3


def test_curves_are_updated_without_a_blink_and_keep_the_zoom(page, server):
    number(page, "Epochs", 200)
    number(page, "Input size", 64)
    number(page, "Brightness", 0.1, "Augmentation")  # the whole network in each epoch, so that curves grow slowly
    start(page)
    wait_for_curve(page, 6)
    page.evaluate(WATCH)
    plot = page.locator(".st-key-curve-accuracy .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.7, steps=6)
    page.mouse.up()
    until(page, lambda: page.evaluate(CHART)["x"][0] > 0.5, PAGE_SECONDS)  # it is a zoom
    before = page.evaluate(CHART)
    wait_for_curve(page, before["points"] + 5)
    page.wait_for_function("window.frames_seen > 60")
    after = page.evaluate(CHART)
    assert (after["x"], after["y"], after["marked"]) == (before["x"], before["y"], True)
    assert page.evaluate("window.blinks") == 0


@pytest.mark.parametrize("server", [{"LEUKODASH_CPU_SLOTS": "2", "CUDA_VISIBLE_DEVICES": "-1"}], indirect=True)
def test_runs_outlive_the_tab_and_a_killed_server_and_are_shown_again(page, server):
    number(page, "Epochs", 400)
    vary(page, "Seed", "1, 2, 3")
    start(page, re.compile("Start 3 runs$"))

    def states():
        return sorted(run.state for run in server.runs())

    until(page, lambda: states() == ["queued", "running", "running"])
    until(page, lambda: all("pid" in run.status for run in server.runs()))  # the waiting one has come up too
    page.goto("about:blank")  # the tab is gone
    pids = {run.id: run.status["pid"] for run in server.runs()}
    server.kill()
    assert "lost" not in states()
    server.start()
    page.goto(f"{server.url}/data")  # a link to a page, the first that this server hears of
    page.get_by_test_id("stTopNav").get_by_role("link", name="Train").click()
    rows = page.locator(", ".join(f".st-key-stop-{name}, .st-key-more-{name}" for name in pids))
    expect(rows).to_have_count(3)
    assert set(states()) <= {"queued", "running", "finished"}
    until(page, lambda: states() == ["finished"] * 3)
    assert {run.id: run.status["pid"] for run in server.runs()} == pids  # the same processes
    listed(page, server.runs())


@pytest.mark.parametrize("size", SIZES)
def test_start_is_on_the_first_screen_and_what_it_starts_is_seen_at_once(page, server, size):
    page.set_viewport_size(SIZES[size])
    button = page.get_by_role("button", name=START)
    still(page)
    expect(button).to_be_in_viewport(ratio=1)
    presses = 0
    while not button.evaluate("button => button === document.activeElement"):
        page.keyboard.press("Tab")
        presses += 1
        assert presses <= 20
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stToast")).to_contain_text("Started: AlexNet")
    if size == "desktop":
        expect(page.locator(".st-key-curve-accuracy")).to_be_in_viewport(ratio=0.9)
    assert fits(page)


def test_settings_survive_another_page_a_reload_and_back_and_forward(page):
    def go_to(name):
        page.get_by_test_id("stTopNav").get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(f"/{name.lower()}"))

    def epochs(value):
        open_settings(page, "Main")
        expect(page.get_by_role("spinbutton", name="Epochs")).to_have_value(value)

    number(page, "Epochs", 7)
    vary(page, "Seed", "1, 2")
    expect(page.get_by_role("button", name=re.compile("Start 2 runs$"))).to_be_visible()
    page.keyboard.press("Escape")
    go_to("Data")
    go_to("Train")
    expect(page.get_by_role("button", name=re.compile("Start 2 runs$"))).to_be_visible()
    expect(page).to_have_url(re.compile("backbones=alexnet&epochs=7"))
    page.reload()
    epochs("7")
    number(page, "Epochs", 8)
    page.reload()  # a new session, which takes no address for a late one
    epochs("8")
    page.go_back()
    epochs("7")
    page.go_forward()
    epochs("8")
