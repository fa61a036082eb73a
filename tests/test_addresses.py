"""Addresses that a stranger made up: whatever is in their parameters, each page opens."""

import os
import random
import re

import pytest
from apptest import open_page
from made_runs import made_run

NAMES = {
    "train": (
        "data",
        "backbones",
        "preset",
        "owner",
        "epochs",
        "input_size",
        "head",
        "split.kind",
        "split.counts",
        "seed",
    ),
    "compare": (
        *("runs", "question", "average", "baselines", "rule", "at", "sensitivity", "share", "tab", "table-of"),
        "person-run",
    ),
    "classify": ("runs", "cells", "own", "guess", "method", "decide"),
    "data": ("data",),
    "lesson": ("data", "runs"),
}
KINDS = ("markdown", "caption", "warning", "error", "info")
VALUES = (
    "x" * 5000, "../../etc/passwd", "/", "..\\..\\x", "\x00\x01\x1b[2J", "\u202ereversed\ufeff", "![q](http://evil/x.png)",
    "<script>alert(1)</script>", "$\\href{javascript:alert(1)}{x}$", "NaN", "inf", "-1", "9" * 400, "1e400", "true", "",
    ",,,,", "%s%n{0}${x}", "=1+1", "[1,2", "{}", "null", "🧬﷽",
)  # fmt: skip


@pytest.fixture(autouse=True)
def runs(app_demo):
    return [made_run("vgg16", seed=1), made_run("mobilenet", seed=2)]


@pytest.mark.parametrize("page", NAMES)
def test_parameters_may_have_any_values(page):
    source = random.Random(f"{page} {os.environ.get('LEUKODASH_FUZZ_SEED', '0')}")
    for number in range(round(3 * float(os.environ.get("LEUKODASH_FUZZ", "1")))):
        names = source.sample(NAMES[page], 1 if number % 3 else len(NAMES[page]))
        values = {name: source.choice(VALUES) for name in names}
        shown = open_page(page, **values, **{source.choice(VALUES) or "unknown": "x"})
        said = [element.value for kind in KINDS for element in shown.get(kind)]
        unescaped = [re.sub(r"\\.", "", words) for words in said]
        assert not [words for words in unescaped if "![" in words or "<script" in words], values
