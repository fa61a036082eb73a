"""`docs/performance.md` is made here, from `docs/performance.json`: the last measurement of every row on the page."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT
from leukodash.models.backbones import BACKBONES

FIGURES = ROOT / "docs" / "performance.json"
KEYS = ("backbone", "training", "cells", "trained", "step", "server")  # what tells rows of a benchmark apart
GIB = 2**30

PAGE = """# How fast LeukoDash is, and how that is measured

A frozen network gives the same output in every epoch. LeukoDash computes this output once, stores it, and trains only
the layers behind it. The tables compare this with other ways of training: both sides in one call, on one machine, on
the same cells, so that the figures are ratios. Every recipe is written out in `benchmarks/harness.py`, so no preset
changes what is measured.

`make bench` measures everything and writes JSON to `benchmarks/results/`. `python -m benchmarks --write
docs/performance.md` copies those figures to `docs/performance.json` and makes this page from it; `--quick` measures the
shorter part anew (about 12 minutes). Each row has the date of its measurement. Rows of 2026-11-22 were measured as
ratios; their seconds of *plain* and *tuned* in the JSON are computed from these.

The figures below: {machine};
no GPU, ImageNet weights, {cells}, nothing else running.

## 100 epochs of a new head

*Plain* is Keras' `fit` through the whole network, with every file read again in every epoch, as in the papers. *Tuned*
decodes the files once and uses `tf.data` with cache and prefetch. Both are measured for two epochs and scaled to 100.
LeukoDash is measured as a whole, from the start of its process to its results: the *first* run with an empty cache, the
*second* with a filled one and another seed. 1,000 cells at 224 pixels (`python -m benchmarks engine`).

{engine}

Predictions do not change. In float32, with the same order of cells, test probabilities agree with those of plain Keras
within 0.001 (`tests/test_training.py`). In bfloat16, three seeds on 200 test cells gave these accuracies:

{accuracy}

## Other heads, and training from inside the network

{heads}

(`python -m benchmarks heads`)

## Features per second

The frozen part of the network over 256 cells in memory: LeukoDash (writing its store to disk included) against Keras'
`model.predict` in float32, three times each in turns (`python -m benchmarks features`). The *program* is what pages
classify with, without TensorFlow, in float32.

{features}

VGG16 consists of large convolutions and gains what the AVX-512 units of the processor offer: twice as many operations
in bfloat16 as in float32. Processors with matrix units (AMX) do several times as many.

## Memory

The peak of a training process, its memory-mapped stores included, at 224 pixels and from an empty cache. C-NMC's
training set has 10,661 cells; smaller sets of cells are repeated (`python -m benchmarks memory`).

{memory}

TensorFlow alone takes 0.7 GiB of each. The time grows with the number of cells; memory hardly does.

## Killed and resumed

{kills} kills (SIGKILL) at random moments over {resumed} runs of four kinds: a new head in eight views with dropout, the
last block with SGD and a cosine schedule, the last block with pixels that change in every epoch, and a whole network
from random weights. The kills hit these stages: {stages}. {identical} of the {resumed} resumed runs ended with the same
history, weights and predictions as runs that were not killed, bit for bit (`python -m benchmarks kills`, {kills_date}).
{work_kills}
## A class on two cores

{class_runs} runs started within {class_within} seconds from ten sessions, one run training at a time (`python -m
benchmarks class_load`, {class_date}): {class_finished} finished, {class_disorder} out of order, and features were
computed {class_features}. Of {class_answers} responses of pages meanwhile, half came within {class_median} s, 99 of 100
within {class_p99} s, and the slowest after {class_slowest} s. All processes together took {class_all} GB at most, the
server {class_server} GB.
{compare}{visitors}{first_minute}"""

WORK_KILLS = """
{kills} more kills hit the other processes that write files ({each}). Of the {reports} pieces of work that these had
reported as done, {lost} was lost, incomplete or different, and the next process left no temporary file.
"""

COMPARE = """
## Compare with {runs} runs

{runs} finished runs of {cells:,} predictions each, driven without a browser (`python -m benchmarks compare_load`,
{date}): the first load took {first} s, the median interaction {median} s, the slowest, {slowest_name}, {slowest} s.
"""

VISITORS = """
## A public demo with {sessions} visitors

{sessions} visitors for {minutes} minutes on the same two cores, each as a browser tab that opens pages in random order,
reads them for some seconds, classifies sample cells and uploads of its own, and comes again (`python -m benchmarks
visitors`, {date}): {answers:,} answers, {errors}. Half came within {median} s, 95 of 100 within {p95} s. The server
took {middle} MiB in the middle and {end} MiB at the end.

{pages}
"""

FIRST_MINUTE = """
## The first minute

A newcomer's, in Chromium on the same two cores, without network, weights or cached files (`python -m benchmarks
first_minute`, {date}): the home page with a real cell's answer {home} s after `streamlit run`, and {answers} s from a
click on a sample cell to its class and heat map. The server took {memory} MiB at most, {tensorflow} TensorFlow.

With a hard limit of {limit} for everything, {pages} pages opened within {slowest} s each, and 50 uploaded cells were
classified in {classified} s; {limited} MiB were used at most, and the server {alive}. A run does not fit into that
beside the app, which the train page says before Start.
"""


def table(columns: dict[str, Iterable[Any]]) -> str:
    """Return columns of cells as a Markdown table."""
    rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a benchmark with those measured last in place of earlier ones of the same row."""
    date = new["date"]
    if "rows" not in new:
        return new
    fresh = [row | {"date": date} for row in new["rows"]]

    def key(row: dict[str, Any]) -> list[Any]:
        return [row.get(name) for name in KEYS]

    replaced = {json.dumps(key(row)): row for row in fresh}
    rows = [replaced.pop(json.dumps(key(row)), row) for row in old.get("rows", [])] + list(replaced.values())
    return {name: value for name, value in new.items() if name != "date"} | {"rows": rows}


def page(figures: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    engine, heads, features, memory = (figures[name]["rows"] for name in ("engine", "heads", "features", "memory"))
    kills, load, compare = figures["kills"], figures["class_load"], figures.get("compare_load")

    def names(rows: list[dict[str, Any]]) -> list[str]:
        return [BACKBONES[row["backbone"]].title for row in rows]

    def ratio(rows: list[dict[str, Any]], over: str, under: str) -> list[str]:
        return [f"{row[over] / row.get(under, row['first']):.1f}" for row in rows]

    def dates(rows: list[dict[str, Any]]) -> list[str]:
        return [row["date"] for row in rows]

    both = [row for row in engine if "accuracy by seed" in row]
    words = ""
    if compare:
        steps = {name: seconds for name, seconds in compare["seconds"].items() if name not in ("first load", "again")}
        slowest, ordered = max(steps, key=steps.__getitem__), sorted(steps.values())
        words = COMPARE.format(
            runs=compare["runs"], cells=compare["cells"], date=compare["date"], slowest_name=slowest,
            first=compare["seconds"]["first load"], median=ordered[len(ordered) // 2], slowest=steps[slowest],
        )  # fmt: skip
    first = figures.get("first_minute")
    return PAGE.format(
        visitors=_visitors(figures["visitors"]) if "visitors" in figures else "",
        first_minute=_first_minute(first["rows"]) if first else "",
        machine=figures["engine"]["machine"],
        cells="real C-NMC cells" if figures["engine"]["real cells"] else "generated cells",
        engine=table({
            "network": names(engine), "arithmetic": [row["precision"] for row in engine],
            "first run": [f"{row['first']:.0f} s" for row in engine],
            "plain ÷ first": ratio(engine, "files", "first"), "tuned ÷ first": ratio(engine, "cached", "first"),
            "first ÷ second": ratio(engine, "first", "second"),
            "plain ÷ first, both in float32": ratio(engine, "files", "first in float32"), "measured": dates(engine),
        }),
        accuracy=table({
            "network": names(both),
            **{name: [", ".join(f"{100 * value:.1f}" for value in row["accuracy by seed"][name]) + " %" for row in both]
               for name in ("bfloat16", "float32")},
            "measured": dates(both),
        }),
        heads=table({
            "training": [row["training"] for row in heads], "arithmetic": [row["precision"] for row in heads],
            "first run": [f"{row['first']:.0f} s" for row in heads], "plain ÷ first": ratio(heads, "files", "first"),
            "plain ÷ first, both in float32": ratio(heads, "files", "first in float32"), "measured": dates(heads),
        }),
        features=table({
            "network": names(features), "arithmetic": [row["precision"] for row in features],
            "LeukoDash, cells/s": [f"{row['LeukoDash']:.1f}" for row in features],
            "`predict`, cells/s": [f"{row['predict']:.1f}" for row in features],
            "ratio": [f"{row['ratio']:.2f}" for row in features],
            "program, cells/s": [f"{row['program']:.1f}" if "program" in row else "" for row in features],
            "measured": dates(features),
        }),
        memory=table({
            "network": names(memory), "cells": [f"{row['cells']:,}" for row in memory],
            "trained": ["new head" if row["trained"] == "head" else "last block too" for row in memory],
            "memory": [f"{row['peak bytes'] / GIB:.2f} GiB" for row in memory],
            "features": [_feature_seconds(row) for row in memory],
            "measured": dates(memory),
        }),
        kills=kills["kills"], resumed=kills["resumed runs"], identical=kills["identical"], kills_date=kills["date"],
        work_kills=_work_kills(kills.get("work")),
        stages=", ".join(f"{stage} {count}" for stage, count in kills["stages"].items()),
        class_runs=load["runs"], class_within=load["started within seconds"], class_finished=load["finished"],
        class_disorder=load["started out of order"] or "none", class_date=load["date"],
        class_features="once" if load["features computed"] == 1 else f"{load['features computed']} times",
        class_answers=f"{load['answers']:,}", class_median=load["answer, median seconds"],
        class_p99=load["answer, 99 of 100 below"], class_slowest=load["slowest seconds"],
        class_all=load["peak GB of all processes"], class_server=load["peak GB of the server"], compare=words,
    )  # fmt: skip


def _work_kills(work: dict[str, Any] | None) -> str:
    if not work:
        return ""
    return WORK_KILLS.format(
        kills=sum(row["kills"] for row in work.values()),
        each=", ".join(f"{name} {row['kills']}" for name, row in work.items()),
        reports=f"{sum(row['reports'] for row in work.values()):,}",
        lost=sum(len(row["problems"]) for row in work.values()) or "none",
    )


def _visitors(seen: dict[str, Any]) -> str:
    pages = table({
        "page": seen["pages"],
        "answers": [each["answers"] for each in seen["pages"].values()],
        "median": [f"{each['median']} s" for each in seen["pages"].values()],
        "95 of 100": [f"{each['p95']} s" for each in seen["pages"].values()],
    })  # fmt: skip
    errors = sum(count for _, count in seen["errors"])
    return VISITORS.format(
        sessions=seen["sessions"], minutes=round(seen["seconds"] / 60), date=seen["date"], answers=seen["answers"],
        errors=f"{errors} errors" if errors else "no error", median=seen["median"], p95=seen["p95"],
        middle=round(seen["MiB in the middle"]), end=round(seen["MiB at the end"]), pages=pages,
    )  # fmt: skip


def _first_minute(rows: list[dict[str, Any]]) -> str:
    free, limited = rows
    return FIRST_MINUTE.format(
        date=free["date"], home=f"{free['home_seconds']:.1f}", memory=f"{free['memory_mib']:.0f}",
        answers=" and ".join(f"{seconds:.1f}" for seconds in (free["answer_seconds"][0], free["answer_seconds"][-1])),
        tensorflow="with" if free["tensorflow"] else "without", limit=limited["server"],
        pages=len(limited["page_seconds"]), slowest=f"{max(limited['page_seconds'].values()):.1f}",
        classified=f"{limited['classify_seconds']:.1f}", limited=f"{limited['memory_mib']:.0f}",
        alive="went on" if limited["alive"] else "ended",
    )  # fmt: skip


def _feature_seconds(row: dict[str, Any]) -> str:
    note = f" ({row['note']})" if "note" in row else ""
    return f"{row['seconds']['features']:.0f} s{note}" if row["seconds"] else ""


def update(target: Path) -> None:
    """Take over what was measured since, and make the page."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name in (*figures, "compare_load", "first_minute", "visitors"):
        measured = RESULTS / f"{name}.json"
        if measured.is_file():
            figures[name] = merged(figures.get(name, {}), json.loads(measured.read_text(encoding="utf-8")))
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    target.write_text(page(figures), encoding="utf-8")
    print(f"{target} was made from {FIGURES}.")
