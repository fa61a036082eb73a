from pathlib import Path

import cv2
import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from leukodash.data.images import read_image
from leukodash.figures.cells import lift
from leukodash.figures.overlay import overlay

ROOT = Path(__file__).resolve().parents[1]
WEB = "image/png"


def page(**query):
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    for name, value in query.items():
        at.query_params[name] = value
    return at.switch_page("pages/classify.py").run()


def words(at):
    """All Markdown of the page, without the backslashes that keep other people's words plain."""
    return "\n".join(element.value for element in at.markdown).replace("\\", "")


@pytest.fixture(autouse=True)
def nothing_remembered():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def cell(tiny_run):
    """Name and bytes of a test cell of a tiny run."""
    run = tiny_run()
    path = Path(run.config.data) / run.predictions.query("part == 'test'")["file"].iloc[0]
    return path.name, path.read_bytes()


def test_without_a_finished_run_the_page_leads_to_training():
    at = page()
    assert not at.exception
    assert "No finished run yet" in at.info[0].value
    assert not at.file_uploader


@pytest.mark.slow
def test_nothing_is_classified_before_there_is_a_cell(tiny_run, monkeypatch):
    from leukodash.explain import predict

    monkeypatch.setattr(predict, "load", lambda run: pytest.fail("a network was loaded"))
    run = tiny_run()
    at = page()
    assert not at.exception
    assert at.multiselect[0].value == [run.id]
    assert at.query_params["runs"] == run.id
    assert "random start" in words(at)
    assert "generated cells" in words(at)


@pytest.mark.slow
def test_an_upload_gets_its_class_and_probabilities(tiny_run, cell):
    run = tiny_run()
    at = page()
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    assert not at.exception
    row = run.predictions.query("part == 'test'").iloc[0]
    said = "ALL blast" if row["p_all"] > 0.5 else "normal"
    assert f"1 cell: 1 {said}" in words(at)
    shares = [element.text for element in at.get("progress")]
    assert shares == [f"ALL blast {row['p_all']:.0%}", f"normal {row['p_hem']:.0%}"]


@pytest.mark.slow
def test_the_heat_map_beside_the_cell_is_that_of_the_command_line(tiny_run, cell, tmp_path, monkeypatch):
    from leukodash.explain.predict import OVERLAY_SIZE, classify_paths
    from pages import classify_cards

    shown = []
    monkeypatch.setattr(classify_cards, "overlay", lambda *asked: shown.append(asked) or overlay(*asked))
    monkeypatch.setattr(classify_cards, "DECODED", OVERLAY_SIZE)
    classify_cards.picture.clear()
    path = tmp_path / "cell.png"
    path.write_bytes(cell[1])
    classify_paths([path], [tiny_run()], overlays=tmp_path / "maps")
    at = page()
    at.file_uploader[0].upload("cell.png", cell[1], WEB).run()
    assert not at.exception
    (written,) = (tmp_path / "maps").iterdir()
    np.testing.assert_array_equal(overlay(*shown[-1]), cv2.imread(str(written))[..., ::-1])
    np.testing.assert_array_equal(shown[-1][0], lift(cv2.resize(read_image(path), (OVERLAY_SIZE, OVERLAY_SIZE))))


@pytest.mark.slow
def test_bad_files_get_a_sentence_each_and_the_good_one_is_shown(tiny_run, cell):
    tiny_run()
    at = page()
    name = "![x](http://evil) <script>.png"
    at.file_uploader[0].set_value(
        [(name, b"<html>", WEB), ("half.png", cell[1][:200], WEB), ("good.png", cell[1], WEB)]
        + [(f"{number}.png", b"no", WEB) for number in range(6)]
    ).run()
    assert not at.exception
    sentences = [error.value for error in at.error]
    assert len(sentences) == 5
    assert sentences[0].startswith(r"'\!\[x\]\(http\:")  # shown as it is: neither a picture nor HTML
    assert "<script>" not in sentences[0].replace(r"\<", "")
    assert "damaged" in sentences[1]
    assert at.expander[0].label == "3 more files could not be read"
    assert "1 cell: " in words(at)


@pytest.mark.slow
def test_samples_are_test_cells_with_their_truth_and_the_link_holds_them(tiny_run):
    run = tiny_run()
    at = page(samples="4", runs=run.id, method="LayerCAM")
    assert not at.exception
    said = words(at)
    assert "4 cells: " in said
    assert "of 4 test cells right" in said
    assert said.count("truth: ") == 4
    assert said.count(":green[:material/check: right]") + said.count(":red[:material/close: wrong]") == 4
    assert at.segmented_control(key="method").value == "layercam"
    tested = {Path(file).name for file in run.predictions.query("part == 'test'")["file"]}
    assert sum(name in said for name in tested) == 4
    before = said
    next(button for button in at.button if button.label == "Draw others").click().run()
    assert words(at) != before


@pytest.mark.slow
def test_cells_that_runs_disagree_on_are_shown_first_and_said_so(tiny_run, cell, monkeypatch):
    from leukodash.explain import predict

    one, two = tiny_run(), tiny_run(seed=1)
    compute = predict.Classifier.classify_with_maps

    def second_run_says_the_opposite_of_bright_images(self, images, method):
        probabilities, maps = compute(self, images, method)
        for number, image in enumerate(images):
            blast = self.run.id == one.id or image.mean() < 250
            probabilities[number] = [0.9, 0.1] if blast else [0.2, 0.8]
        return probabilities, maps

    monkeypatch.setattr(predict.Classifier, "classify_with_maps", second_run_says_the_opposite_of_bright_images)
    white = cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()
    at = page(runs=f"{one.id},{two.id}")
    at.file_uploader[0].set_value([("a cell.png", cell[1], WEB), ("white.png", white, WEB)]).run()
    assert not at.exception
    said = words(at)
    assert "2 cells: the 2 runs disagree on 1, shown first, and agree on 1." in said
    assert said.index("white.png") < said.index("a cell.png")
    assert said.count("runs disagree]") == 1


@pytest.mark.slow
def test_moving_the_opacity_classifies_nothing_again(tiny_run, cell, monkeypatch):
    from leukodash.explain import predict

    tiny_run()
    at = page()
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    monkeypatch.setattr(predict.Classifier, "classify_with_maps", lambda *_: pytest.fail("classified again"))
    at.slider[0].set_value(90).run()
    assert not at.exception
    assert "1 cell: " in words(at)


@pytest.mark.slow
def test_a_run_that_cannot_be_loaded_gets_a_sentence_and_the_other_one_answers(tiny_run, cell):
    good, broken = tiny_run(), tiny_run(seed=2)
    (broken.path / "trained.weights.h5").write_bytes(b"nothing")
    at = page(runs=f"{good.id},{broken.id}")
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    assert not at.exception
    assert "cannot be read" in at.error[0].value
    assert "1 cell: " in words(at)


@pytest.mark.slow
def test_a_public_demo_takes_fifty_files_at_once(tiny_run, monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    tiny_run()
    at = page()
    at.file_uploader[0].set_value([(f"{number}.png", b"no", WEB) for number in range(52)]).run()
    assert not at.exception
    assert "52 files came and 50 are taken" in at.warning[0].value
    assert at.expander[0].label == "45 more files could not be read"
