import io
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from leukodash.cam.overlay_files import SIZE, draw_over

ROOT = Path(__file__).resolve().parents[1]
WEB = "image/png"


def page(**query):
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    for name, value in query.items():
        at.query_params[name] = value
    return at.switch_page("pages/classify.py").run()


def words(at):
    """All Markdown of the page, without the backslashes that escape untrusted text."""
    return "\n".join(element.value for element in at.markdown).replace("\\", "")


@pytest.fixture(autouse=True)
def empty_caches():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def cell(tiny_run):
    """Name and bytes of a test cell of a tiny run."""
    run = tiny_run()
    path = Path(run.config.data) / run.predictions.query("part == 'test'")["file"].iloc[0]
    return path.name, path.read_bytes()


def test_without_a_finished_run_the_page_links_to_training():
    at = page()
    assert not at.exception
    assert "No finished run yet" in at.info[0].value
    assert not at.file_uploader


@pytest.mark.slow
def test_nothing_is_classified_before_there_is_a_cell(tiny_run, monkeypatch):
    from leukodash.inference import classifier as predict

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
    said, share = max(("ALL blast", row["p_all"]), ("normal", row["p_hem"]), key=lambda pair: pair[1])
    assert f"1 cell: 1 {said}" in words(at)
    assert f"**{said}** {100 * share:.0f}%" in words(at)
    (bar,) = at.get("progress")
    assert bar.value == pytest.approx(100 * share, abs=1)
    assert not any(expander.proto.expanded for expander in at.expander)  # trust, inside and export are closed


@pytest.mark.slow
def test_the_heat_map_beside_the_cell_is_that_of_the_command_line(tiny_run, cell, tmp_path, monkeypatch):
    from leukodash.app.classify import cell_cards
    from leukodash.inference.classify_files import classify_paths

    shown = []
    monkeypatch.setattr(cell_cards, "draw_over", lambda *asked: shown.append(draw_over(*asked)) or shown[-1])
    monkeypatch.setattr(cell_cards, "DECODED", SIZE)
    cell_cards.picture.clear()
    path = tmp_path / "cell.png"
    path.write_bytes(cell[1])
    classify_paths([path], [tiny_run()], overlays=tmp_path / "maps")
    at = page()
    at.file_uploader[0].upload("cell.png", cell[1], WEB).run()
    assert not at.exception
    (written,) = (tmp_path / "maps").iterdir()
    np.testing.assert_array_equal(shown[-1], cv2.imread(str(written))[..., ::-1])


@pytest.mark.slow
def test_bad_files_get_an_error_message_and_the_good_one_is_shown(tiny_run, cell):
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
    assert sentences[0].startswith(r"'\!\[x\]\(http\:")  # shown as plain text: neither an image nor HTML
    assert "<script>" not in sentences[0].replace(r"\<", "")
    assert "damaged" in sentences[1]
    assert at.expander[0].label == "3 more files could not be read"
    assert "1 cell: " in words(at)


@pytest.mark.slow
def test_samples_are_test_cells_with_their_truth_and_the_url_restores_them(tiny_run):
    run = tiny_run()
    (run.path / "novelty.npz").unlink()  # with so few training cells a test cell may seem novel
    at = page(samples="4", runs=run.id, method="LayerCAM")
    assert not at.exception
    said = words(at)
    assert "4 cells: " in said
    assert "of 4 test cells correct" in said
    assert said.count("truth: ") == 4
    assert said.count(":green[:material/check:]") + said.count(":red[:material/close:]") == 4
    assert at.selectbox(key="method").value == "layercam"
    tested = {Path(file).name for file in run.predictions.query("part == 'test'")["file"]}
    assert sum(name in said for name in tested) == 4
    before = said
    next(button for button in at.button if button.label == "Draw others").click().run()
    assert words(at) != before


def answers_of(monkeypatch, say):
    """Make networks answer with `say(run id, image)`: the probability of a blast, and the novelty."""
    from leukodash.inference import classifier as predict

    compute = predict.Classifier.answer

    def answer(self, images, *asked):
        found = compute(self, images, *asked)
        for answers in found.values():
            for number, (image, one) in enumerate(zip(images, answers, strict=True)):
                blast, novelty = say(self.run.id, image)
                answers[number] = replace(one, probabilities=np.array([blast, 1 - blast]), novelty=novelty)
        return found

    monkeypatch.setattr(predict.Classifier, "answer", answer)


WHITE = cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()


@pytest.mark.slow
def test_cells_on_which_runs_disagree_are_shown_first_with_their_average(tiny_run, cell, monkeypatch):
    one, two = tiny_run(), tiny_run(seed=1)
    answers_of(monkeypatch, lambda run, image: (0.9 if run == one.id or image.mean() < 250 else 0.2, 0.0))
    at = page(runs=f"{one.id},{two.id}")
    at.file_uploader[0].set_value([("a cell.png", cell[1], WEB), ("white.png", WHITE, WEB)]).run()
    assert not at.exception
    said = words(at)
    assert "2 cells: the 2 runs disagree on 1 (shown first) and agree on 1." in said
    assert said.index("white.png") < said.index("a cell.png")
    assert said.count("runs disagree]") == 1
    assert ":small[Average of the runs]  \n**ALL blast** 55%" in said
    assert ":small[Average of the runs]  \n**ALL blast** 90%" in said


@pytest.mark.slow
def test_an_image_unlike_the_training_cells_is_greyed_out_and_not_counted(tiny_run, cell, monkeypatch):
    run = tiny_run()
    answers_of(monkeypatch, lambda _, image: (0.98, np.inf if image.mean() > 250 else 0.0))
    at = page()
    at.file_uploader[0].set_value([("white.png", WHITE, WEB), ("a cell.png", cell[1], WEB)]).run()
    assert not at.exception
    said = words(at)
    assert "1 cell: 1 ALL blast. 1 image is unlike the training cells: not counted, shown last." in said
    assert said.index("a cell.png") < said.index("white.png")
    assert said.count("**ALL blast** 98%") == 1
    assert said.count(":gray[ALL blast?]") == 1
    assert len(at.get("progress")) == 1
    assert any("this class is meaningless" in caption.value for caption in at.caption)
    assert run.id


@pytest.mark.slow
def test_choosing_the_runs_own_threshold_does_not_classify_again(tiny_run, cell, monkeypatch):
    run = tiny_run()
    table = run.predictions
    blast = np.where(table["label"] == "all", 0.4 + 0.001 * np.arange(len(table)), 0.2)
    table.assign(p_all=blast, p_hem=1 - blast).to_csv(run.path / "predictions.csv", index=False)
    answers_of(monkeypatch, lambda *_: (0.395, 0.0))
    at = page()
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    assert "1 cell: 1 normal." in words(at)
    answers_of(monkeypatch, lambda *_: pytest.fail("classified again"))
    at.segmented_control(key="decide").set_value("validation").run()
    assert not at.exception
    assert "1 cell: 1 ALL blast." in words(at)
    assert "**ALL blast** 40%" in words(at)
    captions = "\n".join(caption.value for caption in at.caption).replace("\\", "")
    assert re.search(r"ALL blast from 3\d%", captions)


@pytest.mark.slow
def test_changing_the_style_or_method_of_the_map_does_not_classify_again(tiny_run, cell, monkeypatch):
    from leukodash.inference import classifier as predict

    run = tiny_run()
    at = page()
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    compute = predict.Classifier.answer
    monkeypatch.setattr(predict.Classifier, "answer", lambda *_: pytest.fail("classified again"))
    at.slider(key="opacity").set_value(90).run()
    at.segmented_control(key="beside").set_value(True).run()
    at.selectbox(key="method").set_value("hirescam").run()
    assert not at.exception
    assert "1 cell: " in words(at)
    asked = []
    monkeypatch.setattr(predict.Classifier, "answer", lambda *given: asked.append(given[2:]) or compute(*given))
    at.segmented_control(key="target").set_value("hem").run()
    at.selectbox(key=f"layer-{run.id}").set_value("conv2").run()
    assert not at.exception
    assert [given[1:] for given in asked] == [("hem", None), ("hem", "conv2")]


@pytest.mark.slow
def test_the_downloads_contain_every_answer(tiny_run, cell, monkeypatch):
    from leukodash.app.classify import answer_downloads

    saved = {}
    monkeypatch.setattr(st, "download_button", lambda label, data, *_, **__: saved.update({label: data}))
    zipped = answer_downloads.overlays_zip
    monkeypatch.setattr(
        answer_downloads, "overlays_zip", lambda *asked: saved.update(zip=zipped(*asked)) or saved["zip"]
    )
    one, two = tiny_run(), tiny_run(seed=1)
    at = page(runs=f"{one.id},{two.id}")
    at.file_uploader[0].set_value([(cell[0], cell[1], WEB), ("bad.png", b"no", WEB)]).run()
    table = pd.read_csv(io.StringIO(saved["Table (CSV)"]))
    assert list(table["run"].fillna("")) == [one.id, two.id, "average", ""]
    assert {"p_all", "calibrated_all", "novelty", "novel", "class", "error", "title"} <= set(table)
    assert "zip" not in saved
    next(button for button in at.button if button.label == "Heat maps (2 pictures)").click().run()
    assert not at.exception
    with zipfile.ZipFile(io.BytesIO(saved["zip"])) as archive:
        stem = Path(cell[0]).stem
        assert archive.namelist() == [f"{stem}.{one.id}.png", f"{stem}.{two.id}.png"]


@pytest.mark.slow
def test_the_expanders_open_for_the_chosen_cell_and_run(tiny_run, cell):
    tiny_run()
    at = page()
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    for key in ("trust", "inside", "export"):
        at.session_state[key] = True
        at.run()
        assert not at.exception
    assert at.selectbox(key="trust-cell").options == [cell[0]]
    assert "A heat map claims" in words(at)
    assert "Feature maps" in [tab.label for tab in at.tabs]


@pytest.mark.slow
def test_runs_with_equal_labels_are_told_apart(tiny_run, cell, tmp_path):
    one = tiny_run()
    other = one.path.with_name(f"{one.id[:-4]}ffff" if one.id[-4:] < "ffff" else f"{one.id[:-4]}fffe")
    shutil.copytree(one.path, other)
    at = page(runs=one.id)
    assert at.multiselect[0].value == [one.id]
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    assert not at.exception
    assert at.multiselect[0].value == [one.id]
    labels = [label[-4:] for label in at.multiselect[0].options]
    assert set(labels) == {one.id[-4:], other.name[-4:]}


@pytest.mark.slow
def test_a_run_that_cannot_be_loaded_gets_an_error_message_and_the_other_one_answers(tiny_run, cell):
    good, broken = tiny_run(), tiny_run(seed=2)
    (broken.path / "trained.weights.h5").write_bytes(b"nothing")
    at = page(runs=f"{good.id},{broken.id}")
    at.file_uploader[0].upload(cell[0], cell[1], WEB).run()
    assert not at.exception
    assert "cannot be read" in at.error[0].value
    assert "1 cell: " in words(at)


@pytest.mark.slow
def test_a_public_demo_accepts_fifty_files_at_once(tiny_run, monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    tiny_run()
    at = page()
    at.file_uploader[0].set_value([(f"{number}.png", b"no", WEB) for number in range(52)]).run()
    assert not at.exception
    assert "52 files were uploaded, but the limit is 50" in at.warning[0].value
    assert at.expander[0].label == "45 more files could not be read"
