import hashlib
import os
import re

import pandas as pd
import pytest

from leukodash.data import dataset as module
from leukodash.data.data_check import problem_folders
from leukodash.data.dataset import Dataset, find_datasets, label_title, load_dataset
from leukodash.errors import DataError


def write(root, *files):
    """Write files that contain their own path, as indexing does not decode images."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(file))
    return root


@pytest.fixture
def cnmc(tmp_path):
    return write(
        tmp_path / "cnmc",
        "fold_0/all/UID_11_10_1_all.bmp",
        "fold_0/hem/UID_H24_7_5_hem.bmp",
        "fold_1/all/UID_12_1_1_all.bmp",
        "fold_1/hem/UID_h3_1_2_hem.bmp",
    )


def test_the_cnmc_layout_gives_label_subject_fold_and_hash_and_a_record_marks_generated_cells(cnmc):
    dataset = load_dataset(cnmc)
    cells = dataset.cells
    assert list(cells["sha256"]) == [hashlib.sha256((cnmc / file).read_bytes()).hexdigest() for file in cells["file"]]
    assert list(cells["label"]) == ["all", "hem", "all", "hem"]
    assert list(cells["subject"]) == ["11", "H24", "12", "H3"]
    assert list(cells["fold"]) == [0, 0, 1, 1]
    assert list(cells.columns) == ["file", "label", "subject", "fold", "sha256", "picture", "named"]
    assert not dataset.generated
    (cnmc / "generated.json").write_text("{}")
    assert load_dataset(cnmc).generated


def test_the_case_of_folders_names_and_extensions_does_not_matter(tmp_path):
    write(tmp_path, "Fold_0/ALL/uid_11_10_1_ALL.BMP", "FOLD_1/Hem/Uid_h24_7_5_heM.Jpeg", "fold_1/all/UID_1_1_1_all.tif")
    cells = load_dataset(tmp_path).cells
    found = sorted(zip(cells["label"], cells["subject"], cells["fold"], strict=True))
    assert found == [("all", "1", 1), ("all", "11", 0), ("hem", "H24", 1)]


def test_folds_can_be_one_folder_below_next_to_unlabeled_images(cnmc, tmp_path):
    outer = tmp_path / "outer"
    cnmc.rename(write(outer, "prelim/1.bmp", "final/1.bmp") / "C-NMC_training_data")
    dataset = load_dataset(outer)
    assert dataset.cells["file"][0] == "C-NMC_training_data/fold_0/all/UID_11_10_1_all.bmp"
    assert (len(dataset.cells), dataset.has_folds) == (4, True)


def test_demo_cells_next_to_class_folders_do_not_hide_them(tmp_path):
    demo = ("demo/generated.json", "demo/fold_0/all/UID_1_1_1_all.png", "demo/fold_0/hem/UID_H1_1_1_hem.png")
    write(tmp_path, "blast/1.png", "normal/1.png", *demo)
    assert load_dataset(tmp_path).classes == ("blast", "normal")
    assert find_datasets(tmp_path) == [tmp_path, tmp_path / "demo"]


def test_class_folders_keep_their_names_and_have_subjects_only_with_cnmc_file_names(tmp_path):
    dataset = load_dataset(write(tmp_path / "plain", "Early/1.png", "Benign/1.tif", "Pro/1.jpg"))
    assert dataset.classes == ("Benign", "Early", "Pro")
    assert (dataset.has_subjects, dataset.has_folds) == (False, False)
    assert list(dataset.cells["subject"]) == [None] * 3
    dataset = load_dataset(write(tmp_path / "named", "ALL/UID_11_10_1_all.bmp", "HEM/UID_H2_1_1_hem.bmp"))
    assert (dataset.classes, list(dataset.cells["subject"])) == (("all", "hem"), ["11", "H2"])


def test_hidden_files_other_files_and_empty_folders_are_ignored(cnmc):
    before = load_dataset(cnmc)
    write(cnmc, ".DS_Store", "manifest.csv", "fold_0/all/._UID_11_10_1_all.bmp", "fold_0/all/notes.txt", ".git/x.png")
    write(cnmc, "__MACOSX/fold_7/all/UID_1_1_1_all.bmp")
    (cnmc / "fold_0" / "unsure").mkdir()
    assert load_dataset(cnmc).fingerprint == before.fingerprint


def test_subjects_csv_lists_files_by_path_or_unique_name(tmp_path):
    write(tmp_path, "blast/1.png", "blast/2.png", "normal/1.png")
    (tmp_path / "subjects.csv").write_text("\ufefffile,subject\n.\\blast\\1.png, NA\n2.png,P2\nnormal/1.png,P3\n")
    assert list(load_dataset(tmp_path).cells["subject"]) == ["NA", "P2", "P3"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,subject\nblast/1.png,A\n", "no subject for 2 of 3 files, for example 'blast/2.png'"),
        ("file,subject\n1.png,A\n2.png,B\n", "no subject for 2 of 3 files, for example 'blast/1.png'"),
        ("file,subject\nblast/1.png,A\nblast/1.png,B\n", "two subjects for 'blast/1.png'"),
        ("name,patient\nblast/1.png,A\n", "needs the columns file,subject, but has: name, patient"),
        ("", "cannot be read"),
    ],
)
def test_incomplete_subjects_are_refused(tmp_path, table, words):
    write(tmp_path, "blast/1.png", "blast/2.png", "normal/1.png")
    (tmp_path / "subjects.csv").write_text(table)
    with pytest.raises(DataError, match=words):
        load_dataset(tmp_path)


CNMC = "fold_0/all/UID_11_10_1_all.bmp fold_1/hem/UID_H24_7_5_hem.bmp "


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (CNMC + "fold_0/all/cell.bmp", "1 of 3 file names contain no subject.*'fold_0/all/cell.bmp'"),
        (CNMC + "fold_0/all/UID_H9_1_1_hem.bmp", "UID_H9_1_1_hem.bmp' is in the folder of the other class"),
        ("", "There is no folder"),
        ("fold/notes.txt", "No cell images were found"),
        ("blast/1.png fold/notes.txt", "has one class, 'blast'.*expected fold_0/all/UID_11_10_1_all.bmp"),
    ],
)
def test_folders_that_are_not_a_data_set_are_refused(tmp_path, files, words):
    with pytest.raises(DataError, match=words):
        load_dataset(write(tmp_path / "cells", *files.split()))


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    write(tmp_path, "blast/1.png", "normal/1.png")
    try:
        (tmp_path / "normal" / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"'normal/\?.png' is not UTF-8"):
        load_dataset(tmp_path)


@pytest.fixture
def odd_root(tmp_path):
    """A data root with a good data set, and others that cannot be used."""
    root = tmp_path / "root"
    write(root, "good/a/1.png", "good/b/1.png", "links/a/1.png", "links/b/1.png", "locked/a/1.png", "locked/b/1.png")
    write(root, f"huge/fold_{10**25}/a/1.png", f"huge/fold_{10**25}/b/1.png")
    (root / "links" / "a" / "2.png").symlink_to("2.png")
    (root / "links" / "itself").symlink_to("itself")
    (root / "circle").symlink_to("circle")
    try:
        write(root, os.fsdecode(b"bad\xff/a/1.png"), os.fsdecode(b"bad\xff/b/1.png"))
        write(root, os.fsdecode(b"class/\xff/1.png"), "class/b/1.png", "class/c/1.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return root


@pytest.fixture
def locked(monkeypatch):
    """Folders called "locked" cannot be read: permissions do not stop root, who may run the tests."""
    for name in ("scandir", "listdir"):
        real = getattr(os, name)

        def refuse(path=".", real=real):
            if "locked" in str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, name, refuse)


def test_folders_that_cannot_be_used_hide_no_others_and_get_a_sentence_each(odd_root, locked):
    assert [folder.name for folder in find_datasets(odd_root)] == ["good", "links"]
    assert len(load_dataset(odd_root / "links").cells) == 2
    sentences = problem_folders(odd_root)
    for words in (
        r"'locked' cannot be read \(Permission denied\)",
        "No cell images were found in 'huge'",
        r"the folder 'bad\?', or of one above it, is not UTF-8",
        r"The name of '\?/1.png' is not UTF-8",
    ):
        assert len([sentence for sentence in sentences if re.search(words, sentence)]) == 1
    assert all(sentence.isprintable() for sentence in sentences)
    assert problem_folders(odd_root / "locked")[0].startswith("The data folder cannot be read (Permission denied)")


def test_known_files_are_not_read_again_unless_the_index_is_damaged(cnmc, tmp_path):
    calls = []
    first = load_dataset(cnmc, lambda *args: calls.append(args))
    file = cnmc / first.cells["file"][0]
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"?" * len(content))
    os.utime(file, ns=times)  # a change that only reading the file again would detect
    assert load_dataset(cnmc, lambda *_: pytest.fail("read again")).fingerprint == first.fingerprint
    assert calls[0] == (1.0, "reading cells, 4 of 4")
    (index,) = (tmp_path / "cache" / "index").iterdir()
    index.write_text("fold_0/all\n\0,,")
    changed = load_dataset(cnmc).fingerprint
    assert changed != first.fingerprint
    assert len(index.read_text().splitlines()) == 4
    file.write_bytes(content)
    os.utime(file, ns=(times[0], times[1] + 1))
    assert load_dataset(cnmc).fingerprint == first.fingerprint


def test_the_fingerprint_depends_on_content_name_fold_and_subject_and_not_on_the_folder(cnmc, tmp_path):
    cell = cnmc / "fold_0/all/UID_11_10_1_all.bmp"
    subjects = {"UID_13_10_1_all.bmp": 13, "UID_12_1_1_all.bmp": 13, "UID_H24_7_5_hem.bmp": 2, "UID_h3_1_2_hem.bmp": 3}
    table = "\n".join(["file,subject", *(f"{file},{subject}" for file, subject in subjects.items())])
    fingerprints = [load_dataset(cnmc).fingerprint]
    for change in (
        lambda: cell.write_text("other content"),
        lambda: cell.rename(cell.with_name("UID_13_10_1_all.bmp")),
        lambda: (cnmc / "fold_1").rename(cnmc / "fold_2"),
        lambda: (cnmc / "subjects.csv").write_text(table),
    ):
        change()
        fingerprints.append(load_dataset(cnmc).fingerprint)
    assert len(set(fingerprints)) == 5
    assert load_dataset(cnmc.rename(tmp_path / "elsewhere")).fingerprint == fingerprints[-1]
    assert len(fingerprints[0]) == 64


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("hem", "all"), "all"),
        (("normal", "Leukaemia cells"), "Leukaemia cells"),
        (("Blast", "Healthy"), "Blast"),
        (("not malignant", "malignant"), "malignant"),
        (("Benign", "Early", "Pre", "Pro"), "Early"),
        (("monocyte", "basophil"), "basophil"),
        (("normal", "healthy"), "healthy"),
    ],
)
def test_the_positive_class_is_the_disease(labels, positive):
    assert Dataset(None, "", pd.DataFrame({"label": labels}), "", False).positive == positive


def test_labels_have_titles():
    assert [label_title(label) for label in ("all", "hem", "Early")] == ["ALL blast", "normal", "Early"]


def test_data_sets_are_found_in_a_root_and_as_a_root(cnmc, tmp_path):
    assert find_datasets(tmp_path) == [cnmc]
    write(tmp_path, "classes/blast/1.png", "classes/normal/1.png", "photos/1.jpg", "one/blast/1.png", ".hid/a/1.png")
    assert find_datasets(tmp_path) == [tmp_path / "classes", cnmc]
    assert find_datasets(cnmc) == [cnmc]
    assert find_datasets(tmp_path / "nowhere") == find_datasets(tmp_path / "photos" / "1.jpg") == []


@pytest.mark.real
def test_real_cells_agree_with_their_manifest(real_cnmc):
    cells = load_dataset(real_cnmc).cells
    manifest = pd.read_csv(real_cnmc / "manifest.csv", dtype={"subject": str}).sort_values("file", ignore_index=True)
    for column, listed in {"file": "file", "label": "label", "named": "subject", "fold": "fold"}.items():
        assert list(cells[column]) == list(manifest[listed]), column
    twins = cells["sha256"].duplicated(keep=False)
    original_twins = manifest["sha256_of_original_bmp"].duplicated(keep=False)
    assert list(twins) == list(original_twins)


def test_a_new_layout_is_one_function(tmp_path, monkeypatch):
    """The example in docs/extending.md: all/<subject>/<file> and hem/<subject>/<file>."""

    def subject_folders(root):
        return [
            module._ClassFolder(path, folder.name, subject=path.name)
            for folder in module._subfolders(root)
            if folder.name in module.LABEL_TITLES
            for path in module._image_folders(folder)
        ]

    monkeypatch.setattr(module, "_class_folders", subject_folders)
    write(tmp_path, "all/7/1.png", "all/9/1.png", "hem/H3/1.png")
    cells = load_dataset(tmp_path).cells
    assert list(zip(cells["label"], cells["subject"], strict=True)) == [("all", "7"), ("all", "9"), ("hem", "H3")]
    assert find_datasets(tmp_path) == [tmp_path]  # and not its class folders, whose subfolders hold images too
