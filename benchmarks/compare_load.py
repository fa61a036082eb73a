"""How long the compare page takes over 200 runs of 7,000 predictions each: the first load and every interaction.

Makes the run folders in a temporary folder and drives the page
with Streamlit's AppTest, which runs the whole script but draws nothing.
"""

import json
import os
import shutil
import sys
import time

import numpy as np

from benchmarks.harness import ROOT, Options

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
RUNS, CELLS = 200, 7000
BACKBONES = ("mobilenet", "vgg16", "resnet50", "googlenet")


def make_runs(count: int, cells: int) -> None:
    """Write finished runs; each has predictions of its own, the numbers of metrics.json are the first one's."""
    from made_runs import made_cells, made_run

    table = made_cells(validation=cells // 3, test=cells - cells // 3, subjects=28)
    first = made_run("mobilenet", cells=table, skill=1.2, when="20260101-000000")
    numbers = first.metrics | {"test_set": first.test_set}  # as the trainer writes it, so that no split.csv is read
    (first.path / "metrics.json").write_text(json.dumps(numbers))
    answers, random = first.predictions, np.random.default_rng(0)
    blast = np.where(answers["label"] == "all", 1.0, -1.0)
    for number in range(1, count):
        backbone = BACKBONES[number % len(BACKBONES)]
        folder = first.path.with_name(f"20260101-{number // 60:02}{number % 60:02}00-{backbone}-{number:04x}")
        shutil.copytree(first.path, folder)
        p = (1 / (1 + np.exp(-2 * (random.normal(size=len(answers)) + (1 + 0.3 * random.random()) * blast)))).round(7)
        answers.assign(p_all=p, p_hem=(1 - p).round(7)).to_csv(folder / "predictions.csv", index=False)
        config = json.loads((first.path / "config.json").read_text()) | {"backbone": backbone, "seed": number}
        (folder / "config.json").write_text(json.dumps(config))


def measure(options: Options) -> dict:
    """Make the runs; returns the seconds of each step."""
    from streamlit.testing.v1 import AppTest  # noqa: TID251  (drives the page from outside)

    names = ("CHECKPOINTS", "PUBLISHED", "CACHE", "DATA")
    os.environ |= {f"LEUKODASH_{name}": f"{options.folder}/{name.lower()}" for name in names}
    make_runs(RUNS, CELLS)
    os.sync()  # a user's runs lie on the disk already
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120).switch_page("pages/compare.py")
    steps = {
        "first load": page.run,
        "again": page.run,
        "threshold rule": lambda: page.segmented_control(key="rule").set_value("fixed").run(),
        "threshold moved": lambda: page.slider(key="at").set_value(0.31).run(),
        "best threshold on validation": lambda: page.segmented_control(key="rule").set_value("youden").run(),
        "all runs in the table": lambda: page.segmented_control(key="table-of").set_value("all").run(),
        "seeds together": lambda: page.segmented_control(key="table-of").set_value("seeds").run(),
        "one run fewer": lambda: page.multiselect[0].set_value(page.multiselect[0].value[1:]).run(),
        "twelve runs": lambda: page.multiselect[0].set_value(_first_ids(12)).run(),
        "disagreements": lambda: page.segmented_control(key="cells").set_value("Disagreements").run(),
        "average": lambda: page.toggle(key="average").set_value(True).run(),
    }
    for tab in ("Paired tests", "ROC and PR", "Calibration", "Decision curve", "By subject"):
        steps[f"tab {tab}"] = lambda tab=tab: _open_tab(page, tab)
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - start, 2)
        assert not page.exception, page.exception[0].message
    return {"runs": RUNS, "cells": CELLS, "seconds": seconds}


def _first_ids(count: int) -> list[str]:
    from leukodash.runs.run_folder import list_runs

    return [run.id for run in list_runs()[:count]]


def _open_tab(page, tab: str) -> None:  # noqa: ANN001
    page.session_state["tab"] = tab
    page.run()
