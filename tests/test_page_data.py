"""The data page without a browser, and what it is made of: the check in words, charts, brighter cells."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from leukodash import settings
from leukodash.data.data_check import (
    describe_duplicates,
    describe_leak,
    describe_leaks,
    duplicates,
    joined_subjects,
    problem_folders,
)
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.split import Split, find_leaks, make_split
from leukodash.figures.cell_pictures import PART_COLORS, brighten, parts_figure, subjects_figure
from leukodash.figures.theme import color
from leukodash.models.backbones import BACKBONES

APP = str(Path(__file__).resolve().parents[1] / "streamlit_app.py")
TITLES = {"all": "ALL blast", "hem": "normal"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Demo cells, but few of them, drawn once."""
    return make_demo(tmp_path_factory.mktemp("drawn") / "demo", cells=60, subjects=12)


@pytest.fixture(autouse=True)
def demo(drawn, monkeypatch):
    st.cache_resource.clear()  # it outlives a test, and the folders in it do not
    folder = Path(shutil.copytree(drawn, settings.data_root() / "demo"))
    monkeypatch.setattr("leukodash.app.common.make_demo", lambda folder: folder)
    return folder


@pytest.fixture
def page():
    page = AppTest.from_file(APP, default_timeout=60)
    return page.switch_page("pages/data.py")


def said(page):
    kinds = ("markdown", "caption", "error", "warning", "success")
    return "\n".join(element.value for kind in kinds for element in page.get(kind))


def test_a_sound_split_is_said_to_be_sound(page):
    page.run()
    assert not page.exception
    assert "No subject or image is in more than one part." in said(page)
    assert "No two files contain the same image." in said(page)
    assert "generated" in said(page)


def test_a_split_by_image_leaks_and_shows_pairs(page):
    page.run()
    split = next(control for control in page.get("button_group") if control.label == "Split by")
    split.set_value("image").run()
    assert not page.exception
    assert "subjects are in more than one part" in said(page)
    assert "Subject" in said(page)


def test_the_wall_shows_no_more_than_it_can(page):
    page.run()
    assert len(page.get("image")) == 48
    next(box for box in page.selectbox if box.label == "Subject").select("H1").run()
    healthy = load_dataset(settings.data_root() / "demo").cells["subject"].eq("H1").sum()
    assert len(page.get("image")) == healthy


def test_a_cell_that_cannot_be_read_gets_a_sentence_in_its_place(page, demo):
    first = sorted(demo.glob("*/all/*"))[0]
    first.write_text("no picture")
    page.run()
    next(box for box in page.selectbox if box.label == "Subject").select(first.name.split("_")[1]).run()
    assert not page.exception
    assert f"{first.name}' is not an image" in said(page)


def test_identical_images_are_shown_and_join_subjects(page, demo):
    one, other = twins(demo)
    page.run()
    assert not page.exception
    assert f"Subjects {one} and {other} share 1 identical image" in said(page)


def test_empty_and_one_class_folders_get_a_sentence_each(page):
    (settings.data_root() / "empty").mkdir()
    (settings.data_root() / "single" / "hem").mkdir(parents=True)
    (settings.data_root() / "single" / "hem" / "1.png").write_bytes(b"x")
    page.run()
    assert "No cell images were found in 'empty'" in said(page)
    assert "'single' has one class, 'hem'" in said(page)


def test_too_few_subjects_are_said_and_the_cells_still_shown(page, demo):
    for file in demo.rglob("UID_*"):
        if file.name.split("_")[1] not in ("1", "H1"):
            file.unlink()
    page.run()
    assert not page.exception
    assert "A split by subject needs 3 or more subjects" in said(page)
    assert len(page.get("image")) > 0


def twins(demo):
    """Copy a cell of one subject over a cell of another; returns the two subjects."""
    files = sorted(demo.glob("*/all/*"))
    first = files[0]
    second = next(file for file in files if file.name.split("_")[1] != first.name.split("_")[1])
    shutil.copyfile(first, second)
    return sorted((first.name.split("_")[1], second.name.split("_")[1]), key=int)


# ------------------------------------------------------------------------------------------ what it is made of


def table(rows):
    return pd.DataFrame(rows, columns=["file", "label", "subject", "sha256"]).assign(fold=pd.NA)


CELLS = table(
    [
        ("a.png", "all", "20", "1"),
        ("b.png", "all", "21", "1"),
        ("c.png", "all", "21", "2"),
        ("d.png", "hem", "H1", "3"),
        ("e.png", "all", "20", "3"),
    ]
)


def test_duplicates_stand_beside_each_other():
    assert list(duplicates(CELLS)["file"]) == ["a.png", "b.png", "d.png", "e.png"]


def test_subjects_that_share_images_are_counted():
    assert joined_subjects(CELLS) == {("20", "21"): 1, ("20", "H1"): 1}


def test_one_image_with_two_labels_is_said():
    assert any("1 image has two different labels" in sentence for sentence in describe_duplicates(CELLS))
    assert describe_duplicates(CELLS.drop_duplicates("sha256")) == []


def test_leaks_are_said_in_sentences(demo):
    cells = load_dataset(demo).cells
    leaks = find_leaks(cells, make_split(cells, Split(kind="image")))
    assert "in more than one part" in describe_leaks(leaks)[0]
    assert describe_leak(leaks[0]).startswith("Subject ")
    assert describe_leaks([]) == []


def test_a_root_with_one_class_folder_alone_is_meant_as_a_data_set(tmp_path):
    (tmp_path / "root" / "all").mkdir(parents=True)
    (tmp_path / "root" / "all" / "1.bmp").write_bytes(b"x")
    assert problem_folders(tmp_path / "root")[0].startswith("'root' has one class, 'all'")
    assert problem_folders(tmp_path / "gone") == []


def test_bars_hold_the_counts_of_a_crosstab(demo):
    cells = load_dataset(demo).cells
    part = make_split(cells, Split())
    figure = parts_figure(cells, part, TITLES)
    counts = pd.crosstab(part, cells["label"])
    for bar, label in zip(figure.data, TITLES, strict=True):
        assert list(bar.y) == [counts.at[name, label] for name in PART_COLORS if name in counts.index]


def test_subject_bars_add_up_to_all_cells(demo):
    cells = load_dataset(demo).cells
    figure = subjects_figure(cells, make_split(cells, Split()), TITLES)
    assert sum(int(np.sum(bar.y)) for bar in figure.data) == len(cells)
    assert "No subjects are in more than one part" in figure.layout.meta["alt"]


def test_parts_have_no_backbones_color():
    assert not set(PART_COLORS.values()) & set(map(color, BACKBONES))


def test_lifting_brightens_the_dark_and_leaves_black_and_white():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, axis=2)
    lifted = brighten(ramp)
    assert lifted.dtype == np.uint8
    assert lifted[0, 0, 0] == 0
    assert lifted[0, 255, 0] == 255
    assert (lifted[0, 1:200] > ramp[0, 1:200]).all()
    assert (np.diff(lifted[0, :, 0].astype(int)) >= 0).all()
