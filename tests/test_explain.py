import hashlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from leukodash.data.images import read_image, square
from leukodash.errors import RunError, WeightsError
from leukodash.explain.samples import draw, unseen_cells
from leukodash.explain.words import disagreements, in_order, summary
from leukodash.runs.config import RunConfig
from leukodash.runs.folder import create_run

SECRETS = "<script>alert(1)</script>" * 9 + ".png"


@pytest.fixture
def cells(tiny_run):
    """Paths of a tiny run's test cells."""
    run = tiny_run()
    rows = run.predictions.query("part == 'test'")
    return [Path(run.config.data) / file for file in rows["file"]]


@pytest.fixture
def alexnet_weights(tmp_path_factory, monkeypatch):
    """A file of random numbers where AlexNet's ImageNet weights are looked for."""
    import keras
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    from leukodash.models.alexnet import AlexNet
    from leukodash.models.backbones import BACKBONES

    folder = tmp_path_factory.getbasetemp() / "alexnet"  # one file for all tests: a tiny run remembers its checksum
    path = folder / BACKBONES["alexnet"].weights.name
    if not path.exists():
        folder.mkdir()
        keras.utils.set_random_seed(0)
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, AlexNet(include_top=False, input_shape=(64, 64, 3)))
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(folder))


def fake_run(rows, part="test", data="."):
    """A run folder with a split of (file, label, part, content) and a result, that no network stands behind."""
    run = create_run(RunConfig(data=str(data), backbone="mobilenet"))
    table = pd.DataFrame(rows, columns=["file", "label", "part", "sha256"]).assign(subject="1")
    table.to_csv(run.path / "split.csv", index=False)
    run.write("metrics.json", {"part": part})
    return run


# ------------------------------------------------------------------------------------------------ samples


def test_samples_are_cells_that_all_runs_were_tested_on_and_none_learnt_from(tmp_path):
    one = fake_run([("a", "all", "test", "A"), ("b", "hem", "test", "B"), ("c", "all", "test", "C")], data=tmp_path)
    two = fake_run([("a", "all", "test", "A"), ("b", "hem", "train", "B"), ("c", "all", "unused", "C")], data=tmp_path)
    assert list(unseen_cells([one])["file"]) == ["a", "b", "c"]
    assert list(unseen_cells([one, two])["file"]) == ["a"]
    assert unseen_cells([one])["path"][0] == tmp_path / "a"


def test_a_test_cell_with_the_bytes_of_a_training_cell_is_no_sample(tmp_path):
    run = fake_run(
        [("a", "all", "test", "A"), ("copy of b", "hem", "test", "B"), ("b", "hem", "train", "B")], data=tmp_path
    )
    assert list(unseen_cells([run])["file"]) == ["a"]


def test_a_run_without_a_test_part_offers_its_validation_cells(tmp_path):
    run = fake_run([("a", "all", "validation", "A"), ("b", "hem", "train", "B")], part="validation", data=tmp_path)
    assert list(unseen_cells([run])["file"]) == ["a"]


def test_there_are_no_samples_where_the_data_set_has_gone(tmp_path):
    run = fake_run([("a", "all", "test", "A")], data=tmp_path / "gone")
    assert unseen_cells([run]).empty
    assert unseen_cells([]).empty


def test_samples_are_drawn_from_each_class_in_turn_and_alike_for_the_same_seed(tmp_path):
    rows = [(f"{i}", "hem" if i % 5 == 0 else "all", "test", f"{i}") for i in range(50)]
    cells = unseen_cells([fake_run(rows, data=tmp_path)])
    drawn = draw(cells, 8, seed=3)
    assert list(drawn["label"]) == ["all", "hem"] * 4
    assert list(drawn["file"]) == list(draw(cells, 8, seed=3)["file"])
    assert list(drawn["file"]) != list(draw(cells, 8, seed=4)["file"])


# ------------------------------------------------------------------------------------------------ words


def said_table(**classes):
    """A table in which run r calls image i ``classes[r][i]``; "-" is an image that cannot be read."""
    rows = []
    for position, words in enumerate(zip(*classes.values(), strict=True)):
        for run, word in zip(classes, words, strict=True):
            label = {"a": "all", "h": "hem", "-": ""}[word]
            rows.append({"position": position, "run": run, "class": label, "error": "no" if word == "-" else ""})
    return pd.DataFrame(rows)


def test_images_that_runs_disagree_on_come_first():
    table = said_table(one="ah-ah", two="aa-hh")
    assert disagreements(table) == {1, 3}
    assert in_order(table) == [1, 3, 0, 4]


@pytest.mark.parametrize(
    ("classes", "truth", "sentence"),
    [
        ({"one": "aah-"}, {}, "3 cells: 2 ALL blast, 1 normal."),
        ({"one": "a"}, {0: "hem"}, "1 cell: 1 ALL blast. 0 of 1 test cell right."),
        ({"one": "aah", "two": "aah"}, {}, "3 cells: all 2 runs agree on each."),
        ({"one": "a", "two": "h"}, {}, "1 cell: the 2 runs disagree on it."),
        (
            {"one": "aahh", "two": "ahhh"},
            {0: "all", 1: "all", 2: "hem"},
            "4 cells: the 2 runs disagree on 1, shown first, and agree on 3. Of 3 test cells, right: A 3, B 2.",
        ),
    ],
)
def test_a_sentence_says_what_was_found(classes, truth, sentence):
    assert summary(said_table(**classes), truth, {"one": "A", "two": "B"}) == sentence


# ------------------------------------------------------------------------------------------------ one run


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cut", ["head", "conv5", "all"])
def test_a_served_run_gives_the_probabilities_of_its_predictions_file(tiny_run, alexnet_weights, cut, precision):
    from leukodash.explain.predict import load
    from leukodash.training.precision import cpu_has_bfloat16

    if precision == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this machine serves bfloat16 runs in float32")
    run = tiny_run(weights="imagenet", cut=cut, precision=precision)
    rows = run.predictions
    served = load(run)
    images = [read_image(Path(run.config.data) / file) for file in rows["file"]]
    expected = rows[["p_all", "p_hem"]].to_numpy()
    np.testing.assert_allclose(served.predict(images), expected, atol=1e-5)
    np.testing.assert_allclose(served.classify_with_maps(images)[0], expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-4  # or the test would not tell cells apart
    assert (served.classes, served.positive, served.size) == (("all", "hem"), "all", 64)


@pytest.mark.slow
def test_images_of_any_size_are_squared_as_for_training(tiny_run):
    from leukodash.explain.predict import load

    served = load(tiny_run())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((64, 64, 3), (90, 200, 3), (20, 10, 3))]
    squared = np.stack([square(image, 64) for image in images])
    np.testing.assert_allclose(served.predict(images), served.predict(squared), atol=1e-7)
    np.testing.assert_allclose(served.predict(images).sum(axis=1), 1)
    assert served.predict([]).shape == (0, 2)


@pytest.mark.slow
def test_maps_follow_the_target_class_and_the_layer(tiny_run, cells):
    from leukodash.explain.predict import load

    served = load(tiny_run())
    images = [read_image(path) for path in cells]
    probabilities, maps = served.classify_with_maps(images)
    assert maps.shape == (len(cells), 3, 3)
    (likeliest,) = {served.classes[k] for k in probabilities.argmax(axis=1)}
    np.testing.assert_array_equal(served.classify_with_maps(images, target=likeliest)[1], maps)
    other = next(label for label in served.classes if label != likeliest)
    assert np.abs(served.classify_with_maps(images, target=other)[1] - maps).max() > 0.1
    early, early_maps = served.classify_with_maps(images, layer="conv2")
    assert early_maps.shape == (len(cells), 7, 7)
    np.testing.assert_allclose(early, probabilities, atol=1e-6)
    with pytest.raises(RunError, match=r"knows no class 'cat'\. Choose one of all, hem"):
        served.classify_with_maps(images, target="cat")


@pytest.mark.slow
def test_a_run_that_has_not_finished_cannot_classify(tiny_run):
    from leukodash.explain.predict import load

    run = tiny_run()
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunError, match="has not finished"):
        load(run)


@pytest.mark.slow
def test_other_pretrained_weights_than_those_of_the_run_are_refused(tiny_run, tmp_path, monkeypatch):
    from leukodash.explain.predict import load

    run = tiny_run()
    with h5py.File(tmp_path / run.config.row.weights.name, "w") as file:
        file["other"] = [1.0]
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path))
    run.write("config.json", run.config.changed(weights="imagenet").model_dump(mode="json"))
    run.write("model.json", run.model | {"random_start": False, "weights_sha256": "0" * 64, "weights_file": "mine.h5"})
    found = hashlib.sha256((tmp_path / run.config.row.weights.name).read_bytes()).hexdigest()[:16]
    with pytest.raises(WeightsError, match=rf"mine\.h5 with SHA-256 0000000000000000…, but .* has {found}…"):
        load(run)


@pytest.mark.slow
def test_damaged_trained_layers_get_a_sentence(tiny_run):
    from leukodash.explain.predict import load

    run = tiny_run()
    (run.path / "trained.weights.h5").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"trained\.weights\.h5.*train it again"):
        load(run)


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.slow
def test_bad_files_get_one_sentence_each_and_the_others_are_classified(tiny_run, cells, tmp_path):
    from leukodash.explain.predict import classify_files, load

    one, two = load(tiny_run()), load(tiny_run(seed=1))
    good = cells[0].read_bytes()
    files = [
        ("good.png", good),
        ("text.png", b"hello"),
        ("half.png", good[: len(good) // 2]),
        ("empty.png", b""),
        tmp_path / "missing.png",
        ("good.png", cells[1].read_bytes()),
        (SECRETS, b"<html>"),
    ]
    table, maps = classify_files([one, two], files)
    failed = table[table["error"] != ""]
    assert list(failed["file"])[:3] == ["text.png", "half.png", "empty.png"]
    assert list(failed["error"].str.extract(r"is (not an image|damaged|empty)|(cannot be read)").bfill(axis=1)[0]) == [
        "not an image",
        "damaged",
        "empty",
        "cannot be read",
        "not an image",
    ]
    assert (failed["run"] == "").all()
    assert failed["p_all"].isna().all()
    assert failed["file"].str.len().max() <= max(80, len(str(tmp_path / "missing.png")))
    fine = table[table["error"] == ""]
    assert list(fine["file"]) == ["good.png", "good.png", "good.png (2)", "good.png (2)"]
    assert list(fine["run"]) == [one.run.id, two.run.id] * 2
    assert list(table["position"]) == [0, 0, 1, 2, 3, 4, 5, 5, 6]
    np.testing.assert_allclose(fine["p_all"] + fine["p_hem"], 1)
    assert [heat is None for heat in maps] == list(table["error"] != "")


@pytest.mark.slow
def test_the_same_bytes_are_computed_once_and_known_answers_are_not_computed_again(tiny_run, cells, monkeypatch):
    from leukodash.explain import predict

    served, asked = predict.load(tiny_run()), []
    compute = served.classify_with_maps

    def counted(images, method):
        asked.append(len(images))
        return compute(images, method)

    monkeypatch.setattr(served, "classify_with_maps", counted)
    known = {}
    files = [cells[0], cells[1], ("again.png", cells[0].read_bytes())]
    first, maps = predict.classify_files([served], files, known=known)
    assert asked == [2]
    again, same_maps = predict.classify_files([served], files, known=known)
    assert asked == [2]
    pd.testing.assert_frame_equal(first, again)
    assert maps[0] is same_maps[0] is same_maps[2]
    predict.classify_files([served], files, method="layercam", known=known)
    assert asked == [2, 2]
    monkeypatch.setattr(predict, "KEPT_ANSWERS", 2)
    predict.classify_files([served], cells[2:4], known=known)
    assert len(known) == 4


@pytest.mark.slow
def test_an_interrupted_call_keeps_the_answers_that_it_had(tiny_run, cells, monkeypatch):
    from leukodash.explain import predict

    monkeypatch.setattr(predict, "BATCH", 2)
    known, heard = {}, []

    def stop_halfway(fraction, words):
        heard.append((fraction, words))
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict.classify_files([predict.load(tiny_run())], cells[:4], known=known, progress=stop_halfway)
    assert len(known) == 2
    assert heard[0][0] == 0
    assert "0 of 4 cells" in heard[0][1]


@pytest.mark.slow
def test_the_command_line_and_the_page_say_the_same(tiny_run, cells, tmp_path):
    from leukodash.explain.predict import classify_files, classify_paths, load

    run = tiny_run()
    folder = tmp_path / "other"
    folder.mkdir()
    twin = folder / cells[0].name
    twin.write_bytes(cells[1].read_bytes())
    paths = [cells[0], twin, tmp_path / "missing.png"]
    table = classify_paths(paths, [run], overlays=tmp_path / "maps")
    uploads, _ = classify_files([load(run)], [(path.name, path.read_bytes()) for path in paths[:2]])
    for column in ("class", "p_all", "p_hem"):
        assert list(table[column][:2]) == list(uploads[column])
    assert list(table["file"]) == [str(path) for path in paths]
    assert "cannot be read" in table["error"][2]
    stem = cells[0].stem
    written = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert written == sorted([f"{stem}.{run.id}.png", f"{stem}-2.{run.id}.png"])
    assert cv2.imread(str(tmp_path / "maps" / written[0])).shape == (320, 320, 3)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_gets_a_sentence(tiny_run, cells, tmp_path):
    from leukodash.explain.predict import classify_paths

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be written"):
        classify_paths(cells[:1], [tiny_run()], overlays=tmp_path / "file" / "maps")


# ------------------------------------------------------------------------------------------------ real cells


@pytest.mark.slow
@pytest.mark.real
def test_heat_lies_on_the_cell_where_a_trained_mobilenet_sees_one(real_weights, real_cnmc):
    from leukodash.explain.cam import Cut, heat
    from leukodash.models.backbones import BACKBONES
    from leukodash.models.build import build
    from leukodash.models.weights import find_weights

    row = BACKBONES["mobilenet"]
    config = RunConfig(data="none", backbone="mobilenet", head=())
    model = build(config, 2, find_weights(row))
    files = sorted((real_cnmc / "fold_1").glob("*/*"))[::180][:20]
    images = np.stack([square(read_image(path), 224) for path in files])
    cut = Cut(model, row.cam_layer, 2)
    _, activations, gradients = cut.gradients(images.astype(np.float32), np.zeros(len(images)))
    maps = heat("eigencam", activations, gradients)  # of no class: the head is untrained
    middle = maps[:, 2:5, 2:5].mean(axis=(1, 2))  # cells lie in the middle of their frames
    border = np.concatenate([maps[:, 0], maps[:, 6]], axis=1).mean(axis=1)
    assert (middle > border).mean() >= 0.9
