"""Every page for everybody: axe-core's rules, no error in the console, no sideways scrolling, and a visible focus."""

import pytest
from app import SIZES, expect, fits, server_with, still
from axe_playwright_python.sync_playwright import Axe

from benchmarks.server import ROOT

pytestmark = pytest.mark.browser

PAGES = ("", "train", "compare", "classify", "data", "lesson")
ZOOMED = {"width": 640, "height": 450}  # a desktop window at 200 %
# On a page opened by its address, Streamlit's client first looks for its server below that address.
STREAMLITS_OWN = ("/_stcore/health", "/_stcore/host-config")
# Arrow keys lead on from the first button of a group. Streamlit's copy button of a code block is seen by a mouse only.
CONTROLS = """() => [...document.querySelectorAll('[data-testid=stMain] :is(a[href], button, input, [role=slider])')]
  .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility() && !one.closest('[data-testid=stCode]'))
  .filter((one) => [null, one].includes(one.closest('[data-testid=stButtonGroup]')?.querySelector('button') ?? null))
  .map((one, number) => one.dataset.control = String(number))"""
FOCUSED = "() => document.activeElement?.dataset.control ?? ''"
# How a control and what surrounds it look, once the page has drawn the change of focus.
LOOK = """async (number) => {
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  const properties = ['outline', 'boxShadow', 'border', 'background', 'textDecoration', 'opacity'];
  let one = document.querySelector(`[data-control="${number}"]`), look = '';
  for (let level = 0; one && level < 4; level++, one = one.parentElement)
    look += properties.map((name) => getComputedStyle(one)[name]).join();
  return look;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, drawn_demo, pretend_weights_folder):
    published = {"LEUKODASH_PUBLISHED": str(ROOT / "checkpoints" / "published")}
    server = server_with(tmp_path_factory.mktemp("app"), drawn_demo, pretend_weights_folder, **published)
    yield server
    server.end()


@pytest.fixture
def errors(page):
    """What the browser's console and failed scripts say, Streamlit's own search for its server aside."""
    found = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: message.type == "error" and found.append(f"{message.text} {message.location}"))
    yield found
    assert not [error for error in found if not any(address in error for address in STREAMLITS_OWN)]


def violations(page):
    """Return the rules that are broken with serious or critical consequences, and where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES, ids=[name or "home" for name in PAGES])
def test_a_page_passes_axe_fits_and_logs_no_error(page, server, errors, name):
    page.emulate_media(reduced_motion="reduce")
    for size, viewport in {**SIZES, "zoomed": ZOOMED}.items():
        page.set_viewport_size(viewport)
        page.goto(f"{server.url}/{name}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            still(page)
            assert violations(page) == [], f"{size}, {scheme}"
        assert fits(page), size
        title = page.get_by_role("heading", level=1).bounding_box()
        header = page.get_by_test_id("stHeader").bounding_box()
        assert title["y"] - header["height"] < 40  # no empty band above the page


@pytest.mark.parametrize("name", PAGES, ids=[name or "home" for name in PAGES])
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(page, server, name):
    page.goto(f"{server.url}/{name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    still(page)
    page.add_style_tag(content="* { transition: none !important; }")
    controls, seen = page.evaluate(CONTROLS), {}
    assert controls
    before = ""
    for _ in range(len(controls) + 120):  # the menu, and pictures that can be clicked, take the focus as well
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUSED)
        if before:
            seen[before] = seen[before] != page.evaluate(LOOK, before)
        if now:
            seen[now] = page.evaluate(LOOK, now)
        before = now
        if all(seen.get(number) is True for number in controls):
            return
    missed = [number for number in controls if not seen.get(number)]
    assert not [page.locator(f"[data-control='{number}']").evaluate("(one) => one.outerHTML") for number in missed]
