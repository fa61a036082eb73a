"""The results page that comes with LeukoDash is what `study --write` makes of the published runs."""

from pathlib import Path

import pytest

from leukodash.studies.catalogue import done
from leukodash.studies.results_page import results_page

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.slow
def test_the_results_page_and_its_figures_are_made_from_the_published_runs(monkeypatch):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    page, figures = results_page(done())
    assert (DOCS / "results.md").read_text(encoding="utf-8") == page
    assert {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "results").glob("*.svg")} == figures
