import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from apptest import open_page, texts, widget
from made_runs import made_run
from streamlit.util import calc_hash

from leukodash.cam.overlay_files import SIZE, draw_over
from leukodash.runs.leaderboard import run_names
from leukodash.runs.run_cells import cell_identities

WHITE = "white.png", cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()


def upload(at, *files):
    """Upload (name, bytes) in one go; returns the texts of the page."""
    if not at.toggle(key="own").value:
        at.toggle(key="own").set_value(True).run()
    at.file_uploader[0].set_value([(*file, "image/png") for file in files]).run()
    return texts(at)


@pytest.fixture(autouse=True)
def empty_caches():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def made():
    """A run whose cells are nowhere on this machine."""
    run = made_run()
    run.weights.touch()
    return run


@pytest.fixture
def cell(cells):
    """Name and bytes of a test cell of a tiny run."""
    return "a cell.png", cells[0].read_bytes()


@pytest.fixture
def answers(monkeypatch):
    """Return a function that makes networks answer with `say(run id, image)`: P(ALL blast), the novelty, a map."""
    from leukodash.inference.classifier import Classifier

    compute = Classifier.answer

    def set_answers(say):
        def answer(self, images, *asked):
            found = compute(self, images, *asked)
            for answers in found.values():
                for number, (image, one) in enumerate(zip(images, answers, strict=True)):
                    blast, novelty, *heat = say(self.run.id, image)
                    heat = np.float32(heat[0]) if heat else one.heat
                    odds = np.array([blast, 1 - blast])
                    answers[number] = replace(one, probabilities=odds, novelty=novelty, heat=heat)
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
    assert "44 more files could not be read" in [expander.label for expander in at.expander]
    assert "1 cell: " in said
    assert "52 files were uploaded, but the limit is 50" in said


def wall(at):
    """The pictures of the wall: their names, and whether each is chosen, by key."""
    (element,) = at.get("bidi_component")
    return {button["key"]: button for button in json.loads(element.proto.json)["buttons"]}


def right(said):
    return said.count(":green[:material/check:]") + said.count(":red[:material/close:]")


@pytest.mark.slow
def test_the_wall_has_the_cells_that_a_run_was_tested_on_and_the_url_restores_what_was_clicked(tiny_run):
    run = tiny_run()
    (run.path / "novelty.npz").unlink()  # with so few training cells a test cell may seem novel
    at = open_page("classify", runs=run.id, method="LayerCAM")
    tested = {Path(file).name for file in run.predictions.query("part == 'test'")["file"]}
    count = len(tested)
    assert [button["name"] for button in wall(at).values()] == [
        *(f"Cell {number}" for number in range(1, count + 1)), "Smear 1", "Smear 2",
    ]  # fmt: skip
    assert f"{count} cells that this network never saw in training" in texts(at)
    assert not right(texts(at))
    widget(at.button, f"Classify all {count}").click().run()
    said = texts(at)
    assert f"of {count} sample cells correct" in said
    assert said.count("truth: ") == right(said) == count
    assert sum(name in said for name in tested) == count
    assert at.selectbox(key="method").value == "layercam"
    keys = at.query_params["cells"].split(",")
    again = open_page("classify", runs=run.id, cells=keys[1])
    assert [key for key, button in wall(again).items() if button["pressed"]] == [keys[1]]
    assert texts(again).count("truth: ") == 1
    widget(again.button, "Clear").click().run()
    assert "cells" not in again.query_params
    assert "truth: " not in texts(again)


def test_where_no_test_cell_is_at_hand_the_shipped_cells_are_shown_with_a_caveat_and_their_licence(made):
    at = open_page("classify", runs=made.id)
    assert len(wall(at)) == 26
    said = texts(at)
    assert "24 cells that this network may have seen in training" in said
    for credit in ("C-NMC 2019, Gupta & Gupta, CC BY 3.0", "BCCD, MIT"):
        assert credit in said
    first = list(wall(at))
    widget(at.button, "Other cells").click().run()
    assert list(wall(at)) != first


def test_the_list_of_runs_names_their_owners(made):
    made.write("about.json", {"title": "My run", "owner": "Ada", "notes": ""})
    (label,) = open_page("classify").multiselect[0].options
    assert label.startswith("My run · ")
    assert label.endswith(" · Ada")


@pytest.mark.slow
def test_a_guess_comes_before_the_answer_and_is_counted_beside_those_of_the_networks(tiny_run, answers):
    run = tiny_run()
    answers(lambda *_: (0.9, 0.0))
    at = open_page("classify", runs=run.id)
    keys = list(wall(at))[:3]
    at = open_page("classify", runs=run.id, guess="true", cells=",".join(keys))
    assert "truth: " not in texts(at)
    assert "ALL blast" not in texts(at)
    label = {sha256(content.encode()).hexdigest()[:8]: label for content, label in named(run)}
    for key, said in ((keys[0], label[keys[0]]), (keys[1], "skip")):
        at.pills(key=f"guess-{key}").set_value(said).run()
    said = texts(at)
    assert said.count("truth: ") == 2
    assert f"Right on 1 cell: You 1, AlexNet {int(label[keys[0]] == 'all')}." in said
    at.toggle(key="guess").set_value(False).run()
    assert texts(at).count("truth: ") == 3
    assert "Right on" not in texts(at)


def named(run):
    cells = run.split.query("part == 'test'")
    return zip(cell_identities(cells), cells["label"], strict=True)


def go_to(at, name):
    at._page_hash = calc_hash(name)  # AppTest.switch_page knows no pages that are functions
    at.run()


@pytest.mark.slow
def test_uploads_and_settings_outlive_a_visit_to_another_page(tiny_run, cell):
    tiny_run()
    at = open_page("classify")
    assert "1 cell: " in upload(at, cell)
    at.slider(key="opacity").set_value(90).run()
    go_to(at, "data")
    assert "1 cell: " not in texts(at)
    go_to(at, "classify")
    assert "1 cell: " in texts(at)
    assert at.slider(key="opacity").value == 90
    said = upload(at, WHITE)
    assert "a cell.png" in said
    assert "white.png" in said
    widget(at.button, "Remove the file from before").click().run()
    said = texts(at)
    assert "a cell.png" not in said
    assert "white.png" in said


@pytest.mark.slow
def test_the_share_of_the_heat_on_the_cell_is_told_and_that_most_lies_beside_it(tiny_run, answers):
    disk = cv2.circle(np.zeros((90, 90, 3), np.uint8), (45, 45), 20, (120, 60, 150), -1)
    png = cv2.imencode(".png", disk)[1].tobytes()
    one, two = tiny_run(), tiny_run(seed=1)
    on, beside = np.zeros((9, 9)), np.zeros((9, 9))
    on[4, 4] = beside[0, 0] = 1
    answers(lambda run, _: (0.9, 0.0, on if run == one.id else beside))
    said = upload(open_page("classify", runs=f"{one.id},{two.id}"), ("disk.png", png))
    titles = list(run_names([one, two]))
    assert ">99% on cell]" in said
    assert "<1% on cell]" in said
    where = f"Most of the map of {titles[1]}, and its hottest place, lie beside the cell"
    assert f"{where}: it explains little of the cell itself." in said
    assert "Probabilities: calibrated where that helps new subjects" in said


@pytest.mark.slow
def test_many_cells_are_a_table_that_can_be_filtered_and_a_selected_row_a_card(tiny_run, answers):
    tiny_run()
    answers(lambda _, image: (0.6 if image.mean() < 128 else 0.95, 0.0))
    at = open_page("classify")
    shades = [
        (f"{shade}.png", cv2.imencode(".png", np.full((64, 64, 3), shade, np.uint8))[1].tobytes())
        for shade in range(10, 240, 10)
    ]
    said = upload(at, *shades)
    (grid,) = at.dataframe
    assert len(grid.value) == len(shades)
    assert "10.png" not in said  # no card
    assert at.segmented_control(key="group").options == ["all (23)", "unsure (12)"]
    at.segmented_control(key="group").set_value("unsure").run()
    assert list(at.dataframe[0].value["name"]) == [name for name, _ in shades[:12]]
    at.segmented_control(key="in-table").set_value(False).run()
    assert not at.dataframe
    assert "10.png" in texts(at)


@pytest.mark.slow
def test_cells_on_which_runs_disagree_are_shown_first_with_their_average(tiny_run, cell, answers):
    one, two = tiny_run(), tiny_run(seed=1)
    answers(lambda run, image: (0.9 if run == one.id or image.mean() < 250 else 0.2, 0.0))
    said = upload(open_page("classify", runs=f"{one.id},{two.id}"), cell, WHITE)
    assert "2 cells: the 2 runs disagree on 1 (shown first) and agree on 1." in said
    assert said.index("white.png") < said.index("a cell.png")
    assert said.count("runs disagree]") == 1
    for share in (55, 90):
        assert f":small[Average]  \n:small[**ALL blast** {share}%" in said


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
    at = open_page("classify", method="Grad-CAM")
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
    layers = at.selectbox(key=f"layer-{run.id}")
    layers.set_value(layers.options[-1]).run()
    assert not at.exception
    assert asked == [("hem", None), ("hem", layers.options[-1])]


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
    table = pd.read_csv(io.StringIO(saved["Table (CSV)"]()))
    assert list(table["run"].fillna("")) == [one.id, two.id, "average", ""]
    assert {"p_all", "calibrated_all", "novelty", "novel", "class", "error", "title", "heat_on_cell"} <= set(table)
    assert table["heat_on_cell"].dropna().between(0, 1).sum() == 2
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
