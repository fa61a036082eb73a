"""The benchmarks' recipe leaves nothing to a preset, and the page of figures is what they make."""

import json

from benchmarks.harness import RECIPE, ROOT
from benchmarks.performance_page import FIGURES, merged, page
from leukodash.config.form_schema import HIDDEN
from leukodash.config.run_config import RunConfig


def test_the_pinned_recipe_has_every_setting():
    assert set(RECIPE) == set(RunConfig.model_fields) - set(HIDDEN) - {"weights"}


def test_the_page_is_made_from_the_committed_figures():
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == page(figures)


def test_a_new_measurement_replaces_the_row_of_the_same_case_alone():
    old = {
        "machine": "a",
        "rows": [{"backbone": "vgg16", "first": 1, "date": "x"}, {"backbone": "alexnet", "first": 2}],
    }
    new = {"machine": "b", "date": "y", "rows": [{"backbone": "alexnet", "first": 3}, {"backbone": "resnet50"}]}
    assert merged(old, new) == {
        "machine": "b",
        "rows": [
            {"backbone": "vgg16", "first": 1, "date": "x"},
            {"backbone": "alexnet", "first": 3, "date": "y"},
            {"backbone": "resnet50", "date": "y"},
        ],
    }
