"""Classification of image files by several runs."""

import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from leukodash.byte_cache import ByteCache
from leukodash.data.images import read_image
from leukodash.errors import RunError
from leukodash.inference.decision import AVERAGE

pytestmark = pytest.mark.slow
SECRETS = "<script>alert(1)</script>" * 9 + ".png"


def test_bad_files_get_an_error_message_and_the_others_are_classified(classifier, cells, tmp_path):
    from leukodash.inference.classify_files import classify_files

    one, two = classifier(), classifier(seed=1)
    good = cells[0].read_bytes()
    files = [
        ("good.png", good),
        ("text.png", b"hello"),
        ("half.png", good[: len(good) // 2]),
        ("empty.png", b""),
        tmp_path / "missing.png",
        ("good.png", cells[1].read_bytes()),
        (SECRETS, b"<html>"),
        ('=HYPERLINK("a.png")', good),
    ]
    table, maps = classify_files([one, two], files)
    failed = table[table["error"] != ""]
    assert list(failed["file"])[:3] == ["text.png", "half.png", "empty.png"]
    kinds = failed["error"].str.extract(r"is (not an image|damaged|empty|an HTML)|(cannot be read)").bfill(axis=1)[0]
    assert list(kinds) == ["not an image", "damaged", "empty", "cannot be read", "an HTML"]
    assert (failed["run"] == "").all()
    assert failed["p_all"].isna().all()
    assert failed["file"].str.len().max() <= max(80, len(str(tmp_path / "missing.png")))
    fine = table[table["error"] == ""]
    named = ["good.png", "good.png (2)", '\'=HYPERLINK("a.png")']  # the last one starts like a formula
    assert list(fine["file"]) == [name for name in named for _ in range(3)]
    assert list(fine["run"]) == [one.run.id, two.run.id, AVERAGE] * 3
    assert list(table["position"]) == [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 7, 7]
    network = fine[fine["run"] != AVERAGE]
    np.testing.assert_allclose(network["p_all"] + network["p_hem"], 1)
    np.testing.assert_allclose(fine["calibrated_all"] + fine["calibrated_hem"], 1)
    assert [heat is None for heat in maps] == list((table["error"] != "") | (table["run"] == AVERAGE))


def test_identical_files_are_classified_once_and_cached_answers_are_reused(classifier, cells, monkeypatch):
    from leukodash.inference import classify_files as module

    served, asked = classifier(), []
    compute = served.answer
    monkeypatch.setattr(served, "answer", lambda images, *rest: asked.append(len(images)) or compute(images, *rest))
    cache = ByteCache(10**6)
    files = [cells[0], cells[1], ("again.png", cells[0].read_bytes())]
    first, maps = module.classify_files([served], files, cache=lambda _: cache)
    assert asked == [2]
    again, same_maps = module.classify_files([served], files, cache=lambda _: cache)
    assert asked == [2]
    pd.testing.assert_frame_equal(first, again)
    assert maps[0] is same_maps[0] is same_maps[2]
    _, other_maps = module.classify_files([served], files, "layercam", cache=lambda _: cache)
    assert asked == [2]  # other weights for the same gradients
    np.testing.assert_allclose(other_maps[0], served.classify_with_maps([read_image(cells[0])], "layercam")[1][0])
    module.classify_files([served], files, rule="validation", cache=lambda _: cache)
    assert asked == [2, 1]  # by classify_with_maps above; a threshold needs no network
    module.classify_files([served], files, target="hem", cache=lambda _: cache)
    module.classify_files([served], files, layers={served.run.id: "conv2"}, cache=lambda _: cache)
    assert asked == [2, 1, 2, 2]


def test_answers_for_a_file_are_kept_where_the_caller_says(classifier, cells):
    from leukodash.inference.classify_files import classify_files

    kept = {True: {}, False: {}}
    files = [cells[0], ("again.png", cells[0].read_bytes()), ("own.png", cells[1].read_bytes())]
    classify_files([classifier()], files, cache=lambda file: kept[isinstance(file, Path)])
    assert {key[0] for key in kept[True]} == {sha256(cells[0].read_bytes()).hexdigest()}
    assert {key[0] for key in kept[False]} == {sha256(path.read_bytes()).hexdigest() for path in cells[:2]}


def test_answers_are_counted_by_their_maps():
    from leukodash.inference.classifier import Answer

    cache = ByteCache(10_000)
    for number in range(20):
        cache[number] = Answer(np.zeros(2), np.zeros((30, 30), np.float32), 0.0)
    assert list(cache) == [18, 19]


def test_an_image_unlike_the_training_cells_is_marked_with_its_score(classifier, cells):
    from leukodash.inference.classify_files import classify_files

    served = classifier()
    scores = served.answer([read_image(path) for path in cells])["gradcam"]
    limit = np.median([answer.novelty for answer in scores])
    served.novelty = replace(served.novelty, limit=limit)
    table, _ = classify_files([served], cells)
    np.testing.assert_allclose(table["novelty"], [answer.novelty for answer in scores], rtol=1e-5)
    assert list(table["novel"]) == list(table["novelty"] > limit)
    assert 0 < table["novel"].sum() < len(table)
    served.novelty = None
    table, _ = classify_files([served], cells)
    assert table["novelty"].isna().all()
    assert not table["novel"].any()


def test_a_map_of_any_layer_can_be_asked_for_and_large_layers_use_small_batches(classifier, cells, monkeypatch):
    served = classifier()
    assert served.layers == ["conv5", "conv4", "conv3", "pool2", "pool1"]
    images = [read_image(path) for path in cells[:3]]
    for layer in served.layers:
        heat = served.classify_with_maps(images, layer=layer)[1]
        assert heat.shape == (3, *served.model.get_layer(layer).output.shape[1:3])
    whole = served.classify_with_maps(images, layer="conv2")[1]
    monkeypatch.setattr("leukodash.inference.classifier.MAX_BATCH_VALUES", 1)
    np.testing.assert_allclose(served.classify_with_maps(images, layer="conv2")[1], whole, atol=1e-5)


def test_score_cam_uses_the_class_that_is_explained(classifier, cells):
    served = classifier()
    images = [read_image(cells[0])]
    both = [served.classify_with_maps(images, "scorecam", target=label)[1] for label in served.classes]
    likeliest = served.predict(images)[0].argmax()
    np.testing.assert_array_equal(served.classify_with_maps(images, "scorecam")[1], both[likeliest])
    assert np.abs(both[0] - both[1]).max() > 0


def test_an_interrupted_call_keeps_its_answers(classifier, cells, monkeypatch):
    from leukodash.inference import classify_files as module

    monkeypatch.setattr(module, "BATCH", 2)
    cache, heard = {}, []

    def stop_halfway(fraction, words):
        heard.append((fraction, words))
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.classify_files([classifier()], cells[:4], cache=lambda _: cache, progress=stop_halfway)
    assert len({key[0] for key in cache}) == 2
    assert heard[0][0] == 0
    assert "0 of 4 cells" in heard[0][1]


def test_the_command_line_and_the_page_give_the_same_table(tiny_run, classifier, cells, tmp_path):
    from leukodash.inference.classify_files import classify_files, classify_paths

    run = tiny_run()
    twin = tmp_path / cells[0].name
    twin.write_bytes(cells[1].read_bytes())
    paths = [cells[0], twin, tmp_path / "missing.png"]
    table = classify_paths(paths, [run], overlays=tmp_path / "maps")
    uploads, _ = classify_files([classifier()], [(path.name, path.read_bytes()) for path in paths[:2]])
    for column in ("class", "p_all", "p_hem"):
        assert list(table[column][:2]) == list(uploads[column])
    assert list(table["file"]) == [str(path) for path in paths]
    assert "cannot be read" in table["error"][2]
    written = {path.name for path in (tmp_path / "maps").iterdir()}
    assert written == {f"{twin.stem}.{run.id}.png", f"{twin.stem}-2.{run.id}.png"}
    assert cv2.imread(str(tmp_path / "maps" / written.pop())).shape == (320, 320, 3)


def test_folders_zips_and_smears_yield_their_cells(tiny_run, cells, tmp_path):
    from leukodash.inference.classify_files import classify_paths, collect_cells

    folder = tmp_path / "folder" / "deep"
    folder.mkdir(parents=True)
    (folder / "cell.png").write_bytes(cells[0].read_bytes())
    (folder / "notes.txt").write_text("no image")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(cells[1], "in/cell.png")
        archive.writestr("bad.png", b"")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    smear = np.full((400, 400, 3), (228, 222, 226), np.uint8)
    for x, y in ((80, 80), (300, 90), (90, 310), (200, 40), (40, 200), (350, 350), (350, 230), (230, 350)):
        cv2.circle(smear, (x, y), 26, (205, 140, 160), -1)
    cv2.circle(smear, (200, 200), 34, (110, 60, 160), -1)
    cv2.imwrite(str(tmp_path / "smear.png"), smear[..., ::-1])
    paths = [tmp_path / "folder", tmp_path / "some.zip", tmp_path / "broken.zip", tmp_path / "smear.png"]
    files, faults = collect_cells(paths)
    assert files[0] == folder / "cell.png"
    expected = ["some.zip/in/cell.png", "some.zip/bad.png", "smear.png, cell 1"]
    assert [name for name, _ in files[1:]] == [f"{tmp_path}/{name}" for name in expected]
    assert str(tmp_path / "broken.zip") in [name for name, _ in faults]
    table = classify_paths(paths, [tiny_run()], tmp_path / "maps.zip", method="hirescam", target="all", layer="conv2")
    assert list(table.loc[table["error"] == "", "p_all"] > 0) == [True] * 3
    assert (table.loc[table["error"] != "", "run"] == "").all()
    with pytest.raises(RunError, match="cannot be written"):
        classify_paths(cells[:1], [tiny_run()], overlays=tmp_path / "smear.png" / "maps")
    with zipfile.ZipFile(tmp_path / "maps.zip") as archive:
        assert len(archive.namelist()) == 3
