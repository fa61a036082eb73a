"""The classify page under load: ten browsers at once, and the memory that one user of two MobileNets takes.

Ten contexts of one Chromium open the page together, each uploads 50 cells of its own under the same 50 names, lets two
MobileNet runs classify them, and downloads the table. Each table must be the command line's, number for number.
Then a fresh server classifies 200 cells for one browser. Peaks are the server process's own (VmHWM of Linux).
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from playwright.async_api import Browser, async_playwright

from benchmarks.harness import RECIPE, ROOT, Options, as_words
from benchmarks.server import Server
from leukodash.data.demo_cells import make_demo

SESSIONS, CELLS, ALONE = 10, 50, 200
PATIENCE = 280_000  # ms
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# JAX is a test dependency, so `make app` does not install it; where it is, TensorFlow imports it: 107 MB.
WITHOUT_JAX = "import sys; sys.modules['jax'] = None; from streamlit.web.cli import main; main()"


def measure(options: Options) -> dict:
    """Train two runs and put both loads on the page; returns a row a load."""
    folder, rows = options.folder, []
    environment = {
        **os.environ, "LEUKODASH_DATA": str(folder / "data"), "LEUKODASH_CACHE": str(folder / "cache"),
        "LEUKODASH_CHECKPOINTS": str(folder / "checkpoints"), "CUDA_VISIBLE_DEVICES": "-1",
    }  # fmt: skip
    make_demo(folder / "data" / "demo")
    runs = _two_runs(folder, environment)
    cells = sorted((folder / "data" / "demo").rglob("*.png"))
    for load, (sessions, count) in {"ten": (SESSIONS, CELLS), "alone": (1, ALONE)}.items():
        parts = [_dealt(folder / load / str(n), cells[n * count : (n + 1) * count]) for n in range(sessions)]
        rows.append({"load": load, **_measured(folder, environment, runs, parts)})
        print(rows[-1], flush=True)
    return {"rows": rows}


def _two_runs(folder: Path, environment: dict[str, str]) -> list[str]:
    def leukodash(*arguments: str) -> str:
        command = [sys.executable, "-m", "leukodash", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    data = ["train", "--backbone", "mobilenet", "--preset", "quick", "--data", str(folder / "data" / "demo")]
    recipe = as_words(RECIPE | {"epochs": 15})
    return [Path(leukodash(*data, *recipe, "--set", f"seed={seed}").split()[-1]).name for seed in (0, 1)]


def _dealt(folder: Path, cells: list[Path]) -> list[Path]:
    """Copy cells into a folder under names that every session's cells have: mixed up, they would be noticed."""
    folder.mkdir(parents=True)
    return [Path(shutil.copy(cell, folder / f"cell-{number:03}.png")) for number, cell in enumerate(cells)]


def _measured(folder: Path, environment: dict[str, str], runs: list[str], parts: list[list[Path]]) -> dict:
    """Put a load on a server of its own; returns what was seen."""
    server = Server(folder, **environment)
    server.program = ("-c", WITHOUT_JAX)
    try:
        server.start()
        idle = _mebibytes(server.process.pid, "VmRSS")
        since = time.monotonic()
        tables, seconds = asyncio.run(_browsers(f"{server.url}/classify?runs={','.join(runs)}", parts))
        took = time.monotonic() - since
        after, peak = _mebibytes(server.process.pid, "VmRSS"), _mebibytes(server.process.pid, "VmHWM")
    finally:
        server.kill()
    told = _told(parts, runs, environment)
    right = sum(_right(table, cells, runs, told) for table, cells in zip(tables, parts, strict=True))
    total = sum(len(cells) for cells in parts) * len(runs)
    return {
        "sessions": len(parts), "cells": len(parts[0]), "runs": len(runs), "seconds": took, "slowest": max(seconds),
        "right": right, "answers": total, "idle MiB": idle, "after MiB": after, "peak MiB": peak,
    }  # fmt: skip


async def _browsers(url: str, parts: list[list[Path]]) -> tuple[list[pd.DataFrame], list[float]]:
    async with async_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        came = await asyncio.gather(*(_session(browser, url, cells) for cells in parts))
        await browser.close()
    return [table for table, _ in came], [seconds for _, seconds in came]


async def _session(browser: Browser, url: str, cells: list[Path]) -> tuple[pd.DataFrame, float]:
    """Upload cells, wait for the answers, and download the table."""
    since = time.monotonic()
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_text("Your own cells").click()
    await page.locator("input[type=file]").first.set_input_files(cells)
    await page.get_by_role("button", name="Save").click()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Table (CSV)").click()
    table = pd.read_csv(await (await download.value).path())
    seconds = time.monotonic() - since
    await context.close()
    return table, seconds


def _told(parts: list[list[Path]], runs: list[str], environment: dict[str, str]) -> pd.DataFrame:
    """Ask the command line for the same cells, outside the measurement."""
    path = parts[0][0].parent / "classified.csv"
    cells = [str(cell) for part in parts for cell in part]
    command = [sys.executable, "-m", "leukodash", "classify", *cells, "--csv", str(path)]
    command += [word for run in runs for word in ("--run", run)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return pd.read_csv(path)


def _right(table: pd.DataFrame, cells: list[Path], runs: list[str], told: pd.DataFrame) -> int:
    """Count the answers, one a cell and run, that are the command line's to a millionth."""
    mine = table[table["run"].isin(runs)].assign(file=lambda rows: str(cells[0].parent) + "/" + rows["file"])
    both = mine.merge(told, on=["file", "run"], suffixes=("", "_told"), validate="1:1")
    near = (both["p_all"] - both["p_all_told"]).abs() < 1e-6
    return int((near & (both["class"] == both["class_told"])).sum())


def _mebibytes(pid: int, what: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) // 1024
