"""The first minute of a newcomer in a browser: no network, no weights, empty folders; freely, and in little memory.

Starts the app as `make app` does, opens the home page, waits for its answer, goes on to *Try a cell*, and clicks cells.
The second server may take `LIMIT_MIB` altogether, the least that Streamlit Community Cloud grants: there every page is
opened and 50 cells are classified. The limit is a control group of Linux, for which the benchmark must be root; without
it, that part is left out.
"""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.harness import ROOT, Options
from benchmarks.server import Server

LIMIT_MIB = 690
CELLS = 50
PAGES = ("", "train", "compare", "classify", "data", "lesson")
GROUPS = Path("/sys/fs/cgroup/memory")  # version 1
PATIENCE = 120_000  # ms


def measure(options: Options) -> dict:
    """Return a row for the free server and, where a limit can be set, one for the limited server."""
    rows = [_first_minute(_fresh(options.folder / "free"))]
    print(rows[0], flush=True)
    if os.access(GROUPS, os.W_OK):
        rows.append(_in_little_memory(_fresh(options.folder / "limited")))
        print(rows[1], flush=True)
    return {"rows": rows}


def _fresh(folder: Path) -> Server:
    """Return a server as a newcomer has it: without weights, in empty folders, with the published runs."""
    folder.mkdir(parents=True)
    return Server(folder, LEUKODASH_WEIGHTS="", LEUKODASH_PUBLISHED=str(ROOT / "checkpoints" / "published"))


def _first_minute(server: Server) -> dict[str, Any]:
    with _page() as page:
        since = time.perf_counter()
        server.start()
        page.goto(server.url)
        page.get_by_role("button", name="Another cell").wait_for()
        home = time.perf_counter() - since
        answers = []
        page.get_by_role("button", name="Try a cell").click()
        for number in (1, 2, 3):
            cell = page.get_by_role("button", name=f"Cell {number}", exact=True)
            cell.wait_for()
            since = time.perf_counter()
            cell.click()
            page.get_by_role("img", name="Heat map of").nth(number - 1).wait_for()
            answers.append(time.perf_counter() - since)
    row = {
        "server": "free",
        "home_seconds": home,
        "answer_seconds": answers,
        "memory_mib": _peak(server) / 2**20,
        "tensorflow": "tensorflow" in Path(f"/proc/{server.process.pid}/maps").read_text(),
    }
    server.end()
    return row


def _in_little_memory(server: Server) -> dict[str, Any]:
    group = GROUPS / f"leukodash-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(LIMIT_MIB * 2**20))
    server.prefix = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    server.start()
    seconds = {}
    with _page() as page:
        for name in PAGES:
            since = time.perf_counter()
            page.goto(f"{server.url}/{name}")
            page.locator("h1").wait_for()
            page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
            seconds[name or "home"] = time.perf_counter() - since
        page.goto(f"{server.url}/train")
        page.get_by_text("it would be ended before it learns").wait_for()
        page.goto(f"{server.url}/classify?own=true")
        cells = sorted((server.folder / "data" / "demo").rglob("*.png"))[:CELLS]
        since = time.perf_counter()
        page.locator("input[type=file]").first.set_input_files([str(cell) for cell in cells])
        page.get_by_text(f"all ({CELLS})").first.wait_for()  # drawn cells may be unlike the real ones
        classified = time.perf_counter() - since
    row = {
        "server": f"{LIMIT_MIB} MiB",
        "page_seconds": seconds,
        "classify_seconds": classified,
        "memory_mib": int((group / "memory.max_usage_in_bytes").read_text()) / 2**20,
        "alive": server.process.poll() is None,
    }
    server.end()
    group.rmdir()
    return row


def _peak(server: Server) -> int:
    """Return the peak of the server's own memory in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


@contextmanager
def _page() -> Any:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()
