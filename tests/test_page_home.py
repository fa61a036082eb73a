"""The home page: answers at once, without TensorFlow, and says what the answer is worth."""

import subprocess
import sys

import pytest
from streamlit.testing.v1 import AppTest


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """The runs that come with LeukoDash."""
    monkeypatch.delenv("LEUKODASH_PUBLISHED")


def page():
    def script():
        from leukodash.app.home_page import show

        show()

    return AppTest.from_function(script, default_timeout=60).run()


def test_a_real_cell_has_a_class_a_heat_map_and_a_credit_and_another_one_follows():
    home = page()
    assert not home.exception
    assert home.title[0].value == "LeukoDash"
    first = home.session_state["home-cell"], [text.value for text in home.markdown if "MobileNet" in text.value]
    assert any("That is right." in text or "That is wrong" in text for text in first[1])
    assert any("CC BY 3.0" in caption.value and "lies on the cell" in caption.value for caption in home.caption)
    assert any("The map shows 100% of the score." in caption.value for caption in home.caption)
    next(button for button in home.button if button.label == "Another cell").click().run()
    assert home.session_state["home-cell"] == first[0] + 1


def test_the_headline_gives_cells_people_and_range():
    sentence = next(text.value for text in page().markdown if "Two papers" in text.value)
    assert "93%" in sentence
    assert "3,527 cells of 25 people" in sentence


def test_the_doors_lead_on():
    labels = [button.label for button in page().button]
    assert {"Try a cell", "See which network is better", "Train one"} <= set(labels)


def test_the_home_page_needs_no_tensorflow():
    code = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('streamlit_app.py', default_timeout=60).run()\n"
        "assert not page.exception, page.exception\n"
        "assert any('MobileNet' in text.value for text in page.markdown)\n"
        "sys.exit(f'{loaded} was imported' if (loaded := {'tensorflow', 'keras'} & set(sys.modules)) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_published_runs_the_doors_remain(monkeypatch, tmp_path):
    monkeypatch.setenv("LEUKODASH_PUBLISHED", str(tmp_path))
    home = page()
    assert not home.exception
    assert any(button.label == "Train one" for button in home.button)
