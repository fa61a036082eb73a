"""The app in Chromium, for tests marked `browser`: nothing here waits for a time, only for what the page shows.

Time-outs are generous, since the tests must pass on a machine that is busy with other work.
"""

import re
import shutil
import time

from playwright.sync_api import TimeoutError as TooLate
from playwright.sync_api import expect

from benchmarks.server import ROOT, Server

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGE_SECONDS = 120  # for a page to show what it should
RUN_SECONDS = 900  # for runs to finish: trainers have a low priority, so other work slows them down tenfold
START = re.compile("Start$")
STILL = """() => new Promise((resolve) => {
  const idle = () => document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
    && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]');
  let since = performance.now();
  const observer = new MutationObserver(() => { since = performance.now(); });
  observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  const look = () => {
    if (!idle()) since = performance.now();
    if (performance.now() - since < 400) return requestAnimationFrame(look);
    observer.disconnect();
    resolve(true);
  };
  look();
})"""

expect.set_options(timeout=1000 * PAGE_SECONDS)


def still(page):
    """Wait until no script runs and nothing on the page has changed for 0.4 seconds."""
    page.evaluate(STILL)


def until(page, condition, seconds=RUN_SECONDS):
    """Wait until `condition()` is true, of files or of the page."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        page.wait_for_timeout(100)


def click_until(page, click, shown):
    """Click until the locator `shown` is visible: a click is lost where the page is just being drawn anew."""

    def opened():
        click()
        try:
            shown.first.wait_for(timeout=5000)
        except TooLate:
            return False
        return True

    until(page, opened, PAGE_SECONDS)


def fits(page):
    """Whether the page needs no horizontal scrolling."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def server_with(folder, demo, weights, **environment):
    """Start a server whose demo cells are drawn already, with the real weights of ../shared or else pretended ones."""
    shutil.copytree(demo, folder / "data" / "demo", dirs_exist_ok=True)
    shared = ROOT.parent / "shared" / "weights"
    server = Server(folder, LEUKODASH_WEIGHTS=str(shared if shared.is_dir() else weights), **environment)
    server.start()
    return server
