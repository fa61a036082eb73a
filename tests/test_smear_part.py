import cv2
import pytest
from made_smears import smear, smear_of_four
from streamlit.testing.v1 import AppTest

from leukodash.data.images import read_image
from leukodash.smears.detection import Box


def page():
    import streamlit as st

    from leukodash.app.classify.smear_part import cells_of_smears

    sources, truth, names = cells_of_smears(st.session_state["files"], st.session_state["truth"])
    st.session_state["answer"] = sources, truth, names


@pytest.fixture
def shown():
    """The page part with two labeled cells, two smears of the same name and a file that is not an image."""
    png = cv2.imencode(".png", smear_of_four()[0][..., ::-1])[1].tobytes()
    other = cv2.imencode(".png", smear([(300, 300)])[0][..., ::-1])[1].tobytes()
    at = AppTest.from_function(page, default_timeout=60)
    at.session_state["files"] = [("x.png", png), ("s.png", png), ("s.png", other), ("bad.png", b"no"), ("y.png", b"")]
    at.session_state["truth"] = {0: "hem", 4: "all"}  # labeled images are single cells, whatever they look like
    return at.run()


def test_each_smear_is_replaced_by_its_cells_and_labels_move_along(shown):
    assert not shown.exception
    sources, truth, names = shown.session_state["answer"]
    cells = [f"s.png, cell {number}" for number in range(1, 5)]
    assert [name for name, _ in sources] == ["x.png", *cells, "s.png (2), cell 1", "bad.png", "y.png"]
    assert truth == {0: "hem", 7: "all"}
    assert names == ["s.png", "s.png (2)"]
    assert all(read_image(data).max(axis=2)[0, 0] == 0 for name, data in sources[1:6])
    assert "2 whole smears with 5 white cells" in shown.markdown[0].value


def test_corrections_belong_to_one_smear_and_can_be_undone(shown):
    sha = next(iter(shown.session_state["smears"]))
    shown.session_state["smears"][sha] |= {"boxes": [Box(10, 10, 60, 60)], "edits": 1}
    shown.run()
    assert [name for name, _ in shown.session_state["answer"][0][1:3]] == ["s.png, cell 1", "s.png (2), cell 1"]
    shown.button[0].click().run()
    assert len(shown.session_state["answer"][0]) == 8


def test_an_image_can_be_treated_as_one_cell(shown):
    shown.toggle[0].set_value(True).run()
    sources, truth, names = shown.session_state["answer"]
    assert [name for name, _ in sources] == ["x.png", "s.png", "s.png (2), cell 1", "bad.png", "y.png"]
    assert truth == {0: "hem", 4: "all"}
    assert names == ["s.png (2)"]
    shown.toggle[0].set_value(False).run()
    assert len(shown.session_state["answer"][0]) == 8
