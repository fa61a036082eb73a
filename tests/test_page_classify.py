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
from apptest import open_page, texts, widget

from leukodash.cam.overlay_files import SIZE, draw_over

WHITE = "white.png", cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()


def upload(at, *files):
    """Upload (name, bytes) in one go; returns the texts of the page."""
    at.file_uploader[0].set_value([(*file, "image/png") for file in files]).run()
    return texts(at)


@pytest.fixture(autouse=True)
def empty_caches():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def cell(cells):
    """Name and bytes of a test cell of a tiny run."""
    return "a cell.png", cells[0].read_bytes()


@pytest.fixture
def answers(monkeypatch):
    """Return a function that makes networks answer with `say(run id, image)`: P(ALL blast), and the novelty."""
    from leukodash.inference.classifier import Classifier

    compute = Classifier.answer

    def set_answers(say):
        def answer(self, images, *asked):
            found = compute(self, images, *asked)
            for answers in found.values():
                for number, (image, one) in enumerate(zip(images, answers, strict=True)):
                    blast, novelty = say(self.run.id, image)
                    answers[number] = replace(one, probabilities=np.array([blast, 1 - blast]), novelty=novelty)
            return found

        monkeypatch.setattr(Classifier, "answer", answer)

    return set_answers


def test_without_a_finished_run_the_page_links_to_training():
    at = open_page("classify")
    assert "No finished run yet" in at.info[0].value
    assert not at.file_uploader


@pytest.mark.slow
def test_nothing_is_classified_before_there_is_a_cell(tiny_run, monkeypatch):
    from leukodash.inference import classifier as predict

    monkeypatch.setattr(predict, "load", lambda run: pytest.fail("a network was loaded"))
    run = tiny_run()
    at = open_page("classify")
    assert at.multiselect[0].value == [run.id]
    assert at.query_params["runs"] == run.id
    assert "random start" in texts(at) and "generated cells" in texts(at)


@pytest.mark.slow
def test_an_upload_gets_its_class_and_probabilities_and_what_explains_them_on_demand(tiny_run, cell):
    run = tiny_run()
    at = open_page("classify")
    said = upload(at, cell)
    row = run.predictions.query("part == 'test'").iloc[0]
    title, share = max(("ALL blast", row["p_all"]), ("normal", row["p_hem"]), key=lambda pair: pair[1])
    assert f"1 cell: 1 {title}" in said
    assert f"**{title}** {100 * share:.0f}%" in said
    (bar,) = at.get("progress")
    assert bar.value == pytest.approx(100 * share, abs=1)
    assert not any(expander.proto.expanded for expander in at.expander)  # trust, inside and export are closed
    for key in ("trust", "inside", "export"):
        at.session_state[key] = True
        at.run()
        assert not at.exception
    assert at.selectbox(key="trust-cell").options == [cell[0]]
    assert "A heat map claims" in texts(at)
    assert "Feature maps" in [tab.label for tab in at.tabs]


@pytest.mark.slow
def test_the_heat_map_beside_the_cell_is_that_of_the_command_line(tiny_run, cells, tmp_path, monkeypatch):
    from leukodash.app.classify import cell_cards
    from leukodash.inference.classify_files import classify_paths

    shown = []
    monkeypatch.setattr(cell_cards, "draw_over", lambda *asked: shown.append(draw_over(*asked)) or shown[-1])
    monkeypatch.setattr(cell_cards, "DECODED", SIZE)
    cell_cards.picture.clear()
    classify_paths(cells[:1], [tiny_run()], overlays=tmp_path / "maps")
    upload(open_page("classify"), (cells[0].name, cells[0].read_bytes()))
    (written,) = (tmp_path / "maps").iterdir()
    np.testing.assert_array_equal(shown[-1], cv2.imread(str(written))[..., ::-1])


@pytest.mark.slow
def test_a_public_demo_shows_the_good_one_of_its_fifty_files_and_an_error_for_bad_ones(cell, monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    at = open_page("classify")
    bad = [("![x](http://evil) <script>.png", b"<html>"), ("half.png", cell[1][:200])]
    said = upload(at, *bad, cell, *((f"{number}.png", b"no") for number in range(49)))
    sentences = [error.value for error in at.error]
    assert len(sentences) == 5
    assert sentences[0].startswith(r"'\!\[x\]\(http\:")  # shown as plain text: neither an image nor HTML
    assert "<script>" not in sentences[0].replace(r"\<", "")
    assert "damaged" in sentences[1]
    assert at.expander[0].label == "44 more files could not be read"
    assert "1 cell: " in said
    assert "52 files were uploaded, but the limit is 50" in said


@pytest.mark.slow
def test_samples_are_test_cells_with_their_truth_and_the_url_restores_them(tiny_run):
    run = tiny_run()
    (run.path / "novelty.npz").unlink()  # with so few training cells a test cell may seem novel
    at = open_page("classify", samples="4", runs=run.id, method="LayerCAM")
    said = texts(at)
    assert "4 cells: " in said
    assert "of 4 test cells correct" in said
    assert said.count("truth: ") == 4
    assert said.count(":green[:material/check:]") + said.count(":red[:material/close:]") == 4
    assert at.selectbox(key="method").value == "layercam"
    tested = {Path(file).name for file in run.predictions.query("part == 'test'")["file"]}
    assert sum(name in said for name in tested) == 4
    widget(at.button, "Draw others").click().run()
    assert texts(at) != said


@pytest.mark.slow
def test_cells_on_which_runs_disagree_are_shown_first_with_their_average(tiny_run, cell, answers):
    one, two = tiny_run(), tiny_run(seed=1)
    answers(lambda run, image: (0.9 if run == one.id or image.mean() < 250 else 0.2, 0.0))
    said = upload(open_page("classify", runs=f"{one.id},{two.id}"), cell, WHITE)
    assert "2 cells: the 2 runs disagree on 1 (shown first) and agree on 1." in said
    assert said.index("white.png") < said.index("a cell.png")
    assert said.count("runs disagree]") == 1
    for share in (55, 90):
        assert f":small[Average of the runs]  \n**ALL blast** {share}%" in said


@pytest.mark.slow
def test_an_image_unlike_the_training_cells_is_greyed_out_and_not_counted(cell, answers):
    answers(lambda _, image: (0.98, np.inf if image.mean() > 250 else 0.0))
    at = open_page("classify")
    said = upload(at, WHITE, cell)
    assert "1 cell: 1 ALL blast. 1 image is unlike the training cells: not counted, shown last." in said
    assert said.index("a cell.png") < said.index("white.png")
    assert said.count("**ALL blast** 98%") == said.count(":gray[ALL blast?]") == 1
    assert len(at.get("progress")) == 1
    assert "this class is meaningless" in said


@pytest.mark.slow
def test_cells_are_classified_again_for_another_target_or_layer_alone(tiny_run, cell, answers, monkeypatch):
    from leukodash.inference.classifier import Classifier

    run, compute, asked = tiny_run(), Classifier.answer, []
    table = run.predictions
    blast = np.where(table["label"] == "all", 0.4 + 0.001 * np.arange(len(table)), 0.2)
    table.assign(p_all=blast, p_hem=1 - blast).to_csv(run.path / "predictions.csv", index=False)
    answers(lambda *_: (0.395, 0.0))
    at = open_page("classify")
    assert "1 cell: 1 normal." in upload(at, cell)
    answers(lambda *_: pytest.fail("classified again"))
    at.segmented_control(key="decide").set_value("validation").run()
    for words in ("1 cell: 1 ALL blast.", r"\*\*ALL blast\*\* 40%", r"ALL blast from 3\d%"):
        assert re.search(words, texts(at))
    at.slider(key="opacity").set_value(90).run()
    at.segmented_control(key="beside").set_value(True).run()
    at.selectbox(key="method").set_value("hirescam").run()
    assert "1 cell: " in texts(at)
    monkeypatch.setattr(Classifier, "answer", lambda *given: asked.append(given[3:]) or compute(*given))
    at.segmented_control(key="target").set_value("hem").run()
    at.selectbox(key=f"layer-{run.id}").set_value("conv2").run()
    assert not at.exception
    assert asked == [("hem", None), ("hem", "conv2")]


@pytest.mark.slow
def test_the_downloads_contain_every_answer(tiny_run, cell, monkeypatch):
    from leukodash.app.classify import answer_downloads

    saved, zipped = {}, answer_downloads.overlays_zip

    def overlays_zip(*asked):
        saved["zip"] = zipped(*asked)
        return saved["zip"]

    monkeypatch.setattr(st, "download_button", lambda label, data, *_, **__: saved.update({label: data}))
    monkeypatch.setattr(answer_downloads, "overlays_zip", overlays_zip)
    one, two = tiny_run(), tiny_run(seed=1)
    at = open_page("classify", runs=f"{one.id},{two.id}")
    upload(at, cell, ("bad.png", b"no"))
    table = pd.read_csv(io.StringIO(saved["Table (CSV)"]))
    assert list(table["run"].fillna("")) == [one.id, two.id, "average", ""]
    assert {"p_all", "calibrated_all", "novelty", "novel", "class", "error", "title"} <= set(table)
    assert "zip" not in saved
    widget(at.button, "Heat maps (2 pictures)").click().run()
    assert not at.exception
    with zipfile.ZipFile(io.BytesIO(saved["zip"])) as archive:
        assert archive.namelist() == [f"a_cell.{run.id}.png" for run in (one, two)]


@pytest.mark.slow
def test_runs_with_equal_labels_are_told_apart(tiny_run, cell):
    one = tiny_run()
    other = one.path.with_name(f"{one.id[:-4]}ffff" if one.id[-4:] < "ffff" else f"{one.id[:-4]}fffe")
    shutil.copytree(one.path, other)
    at = open_page("classify", runs=one.id)
    assert at.multiselect[0].value == [one.id]
    upload(at, cell)
    assert at.multiselect[0].value == [one.id]
    assert {label[-4:] for label in at.multiselect[0].options} == {one.id[-4:], other.name[-4:]}


@pytest.mark.slow
def test_a_run_that_cannot_be_loaded_gets_an_error_message_and_the_other_one_answers(tiny_run, cell):
    good, broken = tiny_run(), tiny_run(seed=2)
    (broken.path / "trained.weights.h5").write_bytes(b"nothing")
    at = open_page("classify", runs=f"{good.id},{broken.id}")
    assert "1 cell: " in upload(at, cell)
    assert "cannot be read" in at.error[0].value
