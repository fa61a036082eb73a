"""The data page without a browser, and what it is made of: the check in words, charts, brighter cells."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from apptest import open_page, texts, widget

from leukodash import settings
from leukodash.data.data_check import (
    describe_duplicates,
    describe_leak,
    describe_leaks,
    describe_left_out,
    duplicates,
    joined_subjects,
    pairs_to_show,
    problem_folders,
)
from leukodash.data.dataset import Dataset
from leukodash.data.split import Split, find_leaks, make_split
from leukodash.figures.cell_pictures import PART_COLORS, brighten, parts_figure, subjects_figure
from leukodash.figures.theme import color
from leukodash.models.backbones import BACKBONES

pytestmark = pytest.mark.usefixtures("app_demo")


def subject_of(file):
    return file.name.split("_")[1]


def test_a_sound_split_is_said_to_be_sound_and_one_by_image_leaks(app_demo):
    page, strip = open_page("data"), app_demo.cells["subject"].nunique()  # a cell of each subject, above the controls
    for words in ("No subject or image is in more than one part.", "No two files show the same cell.", "generated"):
        assert words in texts(page)
    assert len(page.get("image")) == strip + 48
    widget(page.selectbox, "Subject").select("H1").run()
    assert len(page.get("image")) == strip + app_demo.cells["subject"].eq("H1").sum()
    widget(page.get("button_group"), "Split by").set_value("image").run()
    assert "subjects are in more than one part" in texts(page)
    assert "Subject" in texts(page)


def test_cells_come_before_controls_and_the_sample_cells_are_credited():
    page = open_page("data", data="cells")
    order = [element.type for element in page.main]
    assert page.title[0].value == "Data"
    assert order.index("image") < order.index("selectbox")
    assert "C-NMC 2019, Gupta & Gupta, CC BY 3.0" in texts(page)
    assert "48 cells · 24 ALL blast · 24 normal" in texts(page)


def test_two_generated_data_sets_have_two_names(app_demo):
    shutil.copytree(app_demo.root, app_demo.root.parent / "second")
    options = widget(open_page("data").selectbox, "Data set").options
    assert sorted(options)[:2] == ["Demo cells (generated)", "Sample cells (48 of C-NMC)"]
    assert "second (generated)" in options


def test_damaged_and_identical_images_and_other_folders_get_a_sentence_each(app_demo):
    damaged, twin, *others = sorted(app_demo.root.glob("*/all/*"))
    damaged.write_text("no picture")
    other = next(file for file in others if subject_of(file) != subject_of(twin))
    shutil.copyfile(twin, other)
    one, two = sorted((subject_of(twin), subject_of(other)), key=int)
    (settings.data_root() / "empty").mkdir()
    (settings.data_root() / "single" / "hem").mkdir(parents=True)
    (settings.data_root() / "single" / "hem" / "1.png").write_bytes(b"x")
    page = open_page("data")
    people = widget(page.selectbox, "Subject")  # those who share a cell are one
    people.select(next(person for person in people.options if subject_of(damaged) in person.split(" = "))).run()
    for words in (
        f"{damaged.name}' is not an image", f"Subjects {one} and {two} share 1 cell",
        "No cell images were found in 'empty'", "'single' has one class, 'hem'",
    ):  # fmt: skip
        assert words in texts(page)


def test_too_few_subjects_are_said_and_the_cells_still_shown(app_demo):
    for file in app_demo.root.rglob("UID_*"):
        if subject_of(file) not in ("1", "H1"):
            file.unlink()
    page = open_page("data")
    assert "A split by subject needs 3 or more subjects" in texts(page)
    assert len(page.get("image")) > 0


# ------------------------------------------------------------------------------------------ what it is made of


def test_identical_images_stand_together_are_counted_by_subject_and_may_carry_two_labels():
    rows = [
        ("a.png", "all", "20", "1"), ("b.png", "all", "21", "1"), ("c.png", "all", "21", "2"),
        ("d.png", "hem", "H1", "3"), ("e.png", "all", "20", "3"),
    ]  # fmt: skip
    cells = pd.DataFrame(rows, columns=["file", "label", "named", "sha256"])
    cells = cells.assign(picture=[0, 0, 1, 2, 2], subject="20 = 21 = H1")
    dataset = Dataset(Path(), "cells", cells, "", generated=False)
    assert list(duplicates(cells)["file"]) == ["a.png", "b.png", "d.png", "e.png"]
    assert joined_subjects(cells) == {("20", "21", "H1"): 2}
    sentences = describe_duplicates(dataset)
    assert any("1 cell has two different labels" in sentence for sentence in sentences)
    person = "Subjects 20, 21 and H1 share 2 cells: surely one person, who counts as one subject, 20 = 21 = H1."
    assert person in sentences
    assert describe_duplicates(replace(dataset, cells=cells.drop_duplicates("sha256"))) == []


def test_pairs_of_different_subjects_come_first_and_of_each_two_in_turn():
    names = ["1", "1", "1", "2", "2", "3"]
    cells = pd.DataFrame({"file": list("abcdef"), "named": names, "sha256": list("uvwxyz")})
    near = [("a", "b", 0.7), ("a", "d", 0.9), ("b", "d", 0.8), ("c", "f", 0.95)]
    dataset = Dataset(Path(), "cells", cells, "", False, pd.DataFrame(near, columns=["first", "second", "similarity"]))
    assert pairs_to_show(dataset, 9) == [("b", "d"), ("c", "f"), ("a", "d"), ("a", "b")]
    assert pairs_to_show(dataset, 1) == [("b", "d")]


def test_cells_left_out_of_training_are_counted_by_the_subjects_that_the_files_name():
    rows = [("1", "1 = 2", 0), ("1", "1 = 2", 0), ("2", "1 = 2", 1), ("3", "3", 0), ("4", "4", 0), ("5", "5", 1)]
    cells = pd.DataFrame(rows, columns=["named", "subject", "picture"]).assign(picture=range(6))
    part = pd.Series(["unused", "unused", "test", "train", "unused", "test"])
    left_out = describe_left_out(cells, part)
    assert left_out.startswith("2 of 4 cells outside the test part, those of subject 1, are not used")
    assert describe_left_out(cells, part.where(cells["named"] != "1", "train")) == ""
    unknown = cells.assign(named=None, subject=None, picture=[0, 1, 0, 3, 4, 5])
    assert describe_left_out(unknown, part).startswith("1 of 4 cells outside the test part are not used")


def test_leaks_are_said_in_sentences(app_demo):
    leaks = find_leaks(app_demo.cells, make_split(app_demo.cells, Split(kind="image")))
    assert "in more than one part" in describe_leaks(leaks)[0]
    assert describe_leak(leaks[0]).startswith("Subject ")
    assert describe_leaks([]) == []


def test_a_root_with_one_class_folder_alone_is_meant_as_a_data_set(tmp_path):
    (tmp_path / "root" / "all").mkdir(parents=True)
    (tmp_path / "root" / "all" / "1.bmp").write_bytes(b"x")
    assert problem_folders(tmp_path / "root")[0].startswith("'root' has one class, 'all'")
    assert problem_folders(tmp_path / "gone") == []


def test_bars_hold_the_counts_of_a_crosstab_and_those_of_subjects_add_up_to_all_cells(app_demo):
    cells, titles = app_demo.cells, {"all": "ALL blast", "hem": "normal"}
    part = make_split(cells, Split())
    counts = pd.crosstab(part, cells["label"])
    for bar, label in zip(parts_figure(cells, part, titles).data, titles, strict=True):
        assert list(bar.y) == [counts.at[name, label] for name in PART_COLORS if name in counts.index]
    subjects = subjects_figure(cells, part, titles)
    assert sum(int(np.sum(bar.y)) for bar in subjects.data) == len(cells)
    assert "No subjects are in more than one part" in subjects.layout.meta["alt"]
    assert not set(PART_COLORS.values()) & set(map(color, BACKBONES))


def test_lifting_brightens_the_dark_and_leaves_black_and_white():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, axis=2)
    lifted = brighten(ramp)
    assert lifted.dtype == np.uint8
    assert (lifted[0, 0, 0], lifted[0, 255, 0]) == (0, 255)
    assert (lifted[0, 1:200] > ramp[0, 1:200]).all()
    assert (np.diff(lifted[0, :, 0].astype(int)) >= 0).all()


HOSTILE = "![q](http://evil/x.png) <script>"


def test_names_of_classes_subjects_and_files_become_no_markdown(app_demo):
    """Other people's text: a picture in it would be loaded by every visitor's browser."""
    root = settings.data_root() / "hostile"
    cells = sorted(app_demo.root.glob("*/*/*.png"))[:8]
    names = [f"{'a' if number < 4 else HOSTILE.replace('/', '∕')}/{number}.png" for number in range(8)]
    for cell, name in zip(cells, names, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cell, root / name)
    shutil.copyfile(root / names[0], root / names[5])  # identical images of two subjects and two classes
    (root / names[1]).write_bytes(b"no picture")
    subjects = [f"{HOSTILE} {number // 2}" for number in range(8)]
    pd.DataFrame({"file": names, "subject": subjects}).to_csv(root / "subjects.csv", index=False)
    page = open_page("data", data="hostile")
    widget(page.get("button_group"), "Split by").set_value("image").run()
    assert not page.exception
    kinds = ("markdown", "caption", "warning", "info", "success", "error")
    said = [element.value for kind in kinds for element in page.get(kind)]
    said += [image.caption for element in page.get("imgs") for image in element.proto.imgs]
    assert sum("evil" in words for words in said) > 3
    unescaped = [re.sub(r"\\.", "", words) for words in said]
    assert not [words for words in unescaped if "![" in words or "<script" in words]


def test_a_data_root_with_unusable_folders_is_shown_without_them(app_demo, monkeypatch):
    (settings.data_root() / "circle").symlink_to("circle")
    (app_demo.root / "itself").symlink_to("itself")
    (settings.data_root() / f"huge/fold_{10**25}/a").mkdir(parents=True)
    (settings.data_root() / f"huge/fold_{10**25}/a/1.png").touch()
    page = open_page("data")
    assert "No cell images were found in 'huge'" in texts(page)
    assert not open_page("train").exception
