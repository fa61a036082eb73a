import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from leukodash.data.images import read_image, square
from leukodash.errors import RunError, WeightsError
from leukodash.evaluation.calibration import Temperature
from leukodash.explain.decide import AVERAGE, decided, decision, novel, together
from leukodash.explain.overlays import Look, write_overlays
from leukodash.explain.samples import draw, unseen_cells
from leukodash.explain.words import decision_words, disagreements, in_order, percent, summary
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
    """A table in which run r calls image i ``classes[r][i]``: in capitals where it finds it unlike its training cells.

    "-" is an image that cannot be read.
    """
    rows = []
    for position, words in enumerate(zip(*classes.values(), strict=True)):
        for run, word in zip(classes, words, strict=True):
            label = {"a": "all", "h": "hem", "-": ""}[word.lower()]
            row = {"position": position, "run": run, "class": label, "error": "no" if word == "-" else ""}
            rows.append({**row, "novelty": np.nan if word == "-" else 1.0, "novel": word.isupper()})
    return pd.DataFrame(rows)


def test_images_that_runs_disagree_on_come_first():
    table = said_table(one="ah-ah", two="aa-hh")
    assert disagreements(table) == {1, 3}
    assert in_order(table) == [1, 3, 0, 4]


def test_an_image_unlike_the_training_cells_comes_last_and_is_no_disagreement():
    table = said_table(one="aAha", two="hHhh")
    assert disagreements(table) == {0, 3}
    assert in_order(table) == [0, 3, 2, 1]


def test_a_run_that_knows_no_such_image_has_no_say_in_a_disagreement():
    assert disagreements(said_table(one="A", two="h", three="h")) == set()
    assert novel(said_table(one="A", two="h", three="h")) == set()
    assert disagreements(said_table(one="H", two="h", three="a")) == {0}


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
        ({"one": "A"}, {}, "1 image is unlike the training cells: not counted."),
        (
            {"one": "aAHh"},
            {0: "all", 1: "hem"},
            "2 cells: 1 ALL blast, 1 normal. 2 images are unlike the training cells: not counted, shown last. "
            "1 of 1 test cell right.",
        ),
        (
            {"one": "aA", "two": "ah"},
            {},
            "1 cell: all 2 runs agree on it. 1 image is unlike the training cells: not counted, shown last.",
        ),
    ],
)
def test_a_sentence_says_what_was_found(classes, truth, sentence):
    assert summary(said_table(**classes), truth, {"one": "A", "two": "B"}) == sentence


def test_no_probability_is_shown_as_nothing_or_all():
    assert [percent(share) for share in (0.0, 0.0049, 0.005, 0.5, 0.9949, 0.995, 1.0)] == [
        "<1 %", "<1 %", "0 %", "50 %", "99 %", ">99 %", ">99 %",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ classes


def predictions(run, rows):
    """Give a run's folder a predictions.csv of (file, label, part, p_all), and classes."""
    table = pd.DataFrame(rows, columns=["file", "label", "part", "p_all"]).assign(subject="1")
    table.assign(p_hem=1 - table["p_all"]).to_csv(run.path / "predictions.csv", index=False)
    run.write("model.json", {"classes": ["all", "hem"], "positive": "all"})
    return run


def answered(**p_all):
    """A table as the networks answer it: run r gives image i the probability ``p_all[r][i]`` of being a blast."""
    rows = [
        {"position": i, "file": str(i), "run": run, "p_all": p[i], "p_hem": 1 - p[i], "novelty": 1.0, "novel": False}
        for i in range(len(next(iter(p_all.values()))))
        for run, p in p_all.items()
    ]
    return pd.DataFrame(rows).assign(error="")


BLAST_FROM_07 = [
    (f"{i}", "all" if p > 0.7 else "hem", "validation", p) for i, p in enumerate((0.1, 0.6, 0.65, 0.8, 0.9))
]


def test_the_threshold_is_chosen_on_validation_and_by_default_the_likeliest_class_is_taken():
    run = predictions(fake_run([]), [*BLAST_FROM_07, ("t", "hem", "test", 0.99)])
    table = answered(one=[0.69, 0.75, 0.3])
    assert list(decided(table, {"one": decision(run)})["class"]) == ["all", "all", "hem"]
    chosen = decision(run, "validation")
    assert chosen.threshold == pytest.approx(0.725)  # half-way between 0.65 and 0.8
    assert list(decided(table, {"one": chosen}, "validation")["class"]) == ["hem", "all", "hem"]


def test_a_run_without_validation_cells_of_both_classes_says_so_and_takes_the_likeliest_class():
    run = predictions(fake_run([]), [("a", "all", "validation", 0.9)])
    chosen = decision(run, "validation")
    assert chosen.threshold is None
    words = decision_words("M", chosen, calibrated=True)
    assert words == (
        "M: only 1 validation cells, too few to calibrate on; "
        "no validation cells of both classes, so the likeliest class is taken."
    )


def test_the_average_is_the_mean_of_calibrated_probabilities_and_has_a_threshold_of_its_own():
    one = replace(decision(predictions(fake_run([]), BLAST_FROM_07), "validation"), temperature=Temperature(2.0))
    two = replace(decision(predictions(fake_run([]), BLAST_FROM_07), "validation"), temperature=Temperature(0.5))
    table = decided(answered(one=[0.9, 0.9], two=[0.6, 0.9]), {"one": one, "two": two}, "validation")
    assert list(table["run"]) == ["one", "two", AVERAGE] * 2
    mean = table[table["run"] == AVERAGE]
    # odds 9 to the power 1/2 are 3; odds 3/2 squared are 9/4
    assert mean["calibrated_all"].iloc[0] == pytest.approx((3 / 4 + 9 / 13) / 2)
    assert list(mean["class"]) == ["hem", "all"]  # 0.72 is below the threshold of 0.74
    assert mean["p_all"].isna().all()
    np.testing.assert_allclose(table["calibrated_all"] + table["calibrated_hem"], 1)
    own = together([one, two], "validation")
    assert own.threshold == pytest.approx(
        np.mean([scaled.temperature.scale(np.array([p, 1 - p]))[0] for scaled in (one, two) for p in (0.65, 0.8)])
    )


def test_runs_with_other_validation_cells_average_without_a_threshold():
    one = decision(predictions(fake_run([]), BLAST_FROM_07), "validation")
    two = decision(predictions(fake_run([]), [("x", *row[1:]) for row in BLAST_FROM_07]), "validation")
    both = together([one, two], "validation")
    assert both.threshold is None
    assert "different validation cells" in decision_words("The average", both, calibrated=False)
    assert together([one, replace(two, classes=("all", "hem", "other"))]) is None


def test_the_average_is_unlike_the_training_cells_where_half_of_the_runs_say_so():
    table = answered(one=[0.9, 0.9], two=[0.9, 0.9], three=[0.9, 0.9])
    table.loc[[0, 1, 3], "novel"] = True
    table.loc[5, "novelty"] = np.nan  # one run cannot say
    plain = decision(predictions(fake_run([]), []))
    found = decided(table, dict.fromkeys(("one", "two", "three"), plain))
    assert list(found.loc[found["run"] == AVERAGE, "novel"]) == [True, True]
    table.loc[5, "novelty"] = 1.0
    found = decided(table, dict.fromkeys(("one", "two", "three"), plain))
    assert list(found.loc[found["run"] == AVERAGE, "novel"]) == [True, False]


# ------------------------------------------------------------------------------------------------ pictures


def test_pictures_get_names_that_every_system_can_write(tmp_path):
    image = np.zeros((20, 20, 3), np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    names = ["a.png", "A.png", "a-2.png", "../../etc/passwd", "smear.jpg, cell 3", "<b>.png", "..."]
    table = answered(run=[0.5] * len(names))
    write_overlays(tmp_path / "o.zip", [(name, png) for name in names], table, [np.ones((3, 3))] * len(names))
    with zipfile.ZipFile(tmp_path / "o.zip") as archive:
        assert archive.namelist() == [
            "a.run.png", "A-2.run.png", "a-2-2.run.png", "passwd.run.png", "smear.jpg_cell_3.run.png", "b.run.png",
            "cell.run.png",
        ]  # fmt: skip
        assert archive.testzip() is None


def test_a_picture_is_faded_to_grey_or_stands_beside_its_cell(tmp_path):
    cell = np.full((40, 40, 3), (90, 10, 120), np.uint8)
    png = cv2.imencode(".png", cell[..., ::-1])[1].tobytes()
    table = answered(run=[0.5, 0.5])
    table.loc[1, "novel"] = True
    heat = np.linspace(0, 1, 9).reshape(3, 3)
    write_overlays(tmp_path, [("a.png", png), ("b.png", png)], table, [heat, heat], Look(beside=True, bright=False))
    colored, grey = (cv2.imread(str(tmp_path / f"{name}.run.png"))[..., ::-1] for name in "ab")
    assert colored.shape == (320, 640, 3)
    np.testing.assert_array_equal(colored[:, :320], np.full((320, 320, 3), (90, 10, 120)))
    assert np.ptp(colored[:, 320:], axis=2).max() > 100
    assert np.ptp(grey[:, 320:], axis=2).max() == 0


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
    from leukodash.explain.files import classify_files
    from leukodash.explain.predict import load

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
        ('=HYPERLINK("a.png")', good),
    ]
    table, maps = classify_files([one, two], files)
    failed = table[table["error"] != ""]
    assert list(failed["file"])[:3] == ["text.png", "half.png", "empty.png"]
    assert list(
        failed["error"].str.extract(r"is (not an image|damaged|empty|a text)|(cannot be read)").bfill(axis=1)[0]
    ) == [
        "not an image",
        "damaged",
        "empty",
        "cannot be read",
        "a text",
    ]
    assert (failed["run"] == "").all()
    assert failed["p_all"].isna().all()
    assert failed["file"].str.len().max() <= max(80, len(str(tmp_path / "missing.png")))
    fine = table[table["error"] == ""]
    named = ["good.png", "good.png (2)", '\'=HYPERLINK("a.png")']  # the last one begins as a formula does
    assert list(fine["file"]) == [name for name in named for _ in range(3)]
    assert list(fine["run"]) == [one.run.id, two.run.id, AVERAGE] * 3
    assert list(table["position"]) == [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 7, 7]
    network = fine[fine["run"] != AVERAGE]
    np.testing.assert_allclose(network["p_all"] + network["p_hem"], 1)
    np.testing.assert_allclose(fine["calibrated_all"] + fine["calibrated_hem"], 1)
    assert [heat is None for heat in maps] == list((table["error"] != "") | (table["run"] == AVERAGE))


@pytest.mark.slow
def test_the_same_bytes_are_computed_once_and_known_answers_are_not_computed_again(tiny_run, cells, monkeypatch):
    from leukodash.explain import files as module
    from leukodash.explain.predict import load

    served, asked = load(tiny_run()), []
    compute = served.answer
    monkeypatch.setattr(served, "answer", lambda images, *rest: asked.append(len(images)) or compute(images, *rest))
    known = module.Known()
    files = [cells[0], cells[1], ("again.png", cells[0].read_bytes())]
    first, maps = module.classify_files([served], files, known=known)
    assert asked == [2]
    again, same_maps = module.classify_files([served], files, known=known)
    assert asked == [2]
    pd.testing.assert_frame_equal(first, again)
    assert maps[0] is same_maps[0] is same_maps[2]
    _, other_maps = module.classify_files([served], files, "layercam", known=known)
    assert asked == [2]  # another weighting of the same gradients
    np.testing.assert_allclose(other_maps[0], served.classify_with_maps([read_image(cells[0])], "layercam")[1][0])
    module.classify_files([served], files, rule="validation", known=known)
    assert asked == [2, 1]  # by classify_with_maps above; a threshold needs no network
    module.classify_files([served], files, target="hem", known=known)
    module.classify_files([served], files, layers={served.run.id: "conv2"}, known=known)
    assert asked == [2, 1, 2, 2]


@pytest.mark.slow
def test_answers_that_are_kept_are_bounded_by_their_size(monkeypatch):
    from leukodash.explain import files as module
    from leukodash.explain.predict import Answer

    monkeypatch.setattr(module, "KEPT_BYTES", 1000)
    known = module.Known()
    for number in range(20):
        known[number,] = Answer(np.zeros(2), np.zeros((5, 5), np.float32), 0.0)
    assert list(known) == [(number,) for number in range(10, 20)]


@pytest.mark.slow
def test_an_image_unlike_the_training_cells_is_marked_with_its_score(tiny_run, cells):
    from leukodash.explain.files import classify_files
    from leukodash.explain.predict import load

    served = load(tiny_run())
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


@pytest.mark.slow
def test_any_layer_with_places_can_be_shown_and_large_ones_go_in_small_batches(tiny_run, cells, monkeypatch):
    from leukodash.explain import predict

    served = predict.load(tiny_run())
    assert served.layers[-1] not in ("cell", "preprocessing")
    assert {"conv2", "conv5"} <= set(served.layers)
    images = [read_image(path) for path in cells[:3]]
    for layer in served.layers:
        heat = served.classify_with_maps(images, layer=layer)[1]
        assert heat.shape == (3, *served.model.get_layer(layer).output.shape[1:3])
    whole = served.classify_with_maps(images, layer="conv2")[1]
    monkeypatch.setattr(predict, "LARGEST", 1)
    np.testing.assert_allclose(served.classify_with_maps(images, layer="conv2")[1], whole, atol=1e-5)


@pytest.mark.slow
def test_score_cam_asks_about_the_class_that_is_explained(tiny_run, cells):
    from leukodash.explain.predict import load

    served = load(tiny_run())
    images = [read_image(cells[0])]
    both = [served.classify_with_maps(images, "scorecam", target=label)[1] for label in served.classes]
    likeliest = served.predict(images)[0].argmax()
    np.testing.assert_array_equal(served.classify_with_maps(images, "scorecam")[1], both[likeliest])
    assert np.abs(both[0] - both[1]).max() > 0


@pytest.mark.slow
def test_an_interrupted_call_keeps_the_answers_that_it_had(tiny_run, cells, monkeypatch):
    from leukodash.explain import files as module
    from leukodash.explain.predict import load

    monkeypatch.setattr(module, "BATCH", 2)
    known, heard = {}, []

    def stop_halfway(fraction, words):
        heard.append((fraction, words))
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.classify_files([load(tiny_run())], cells[:4], known=known, progress=stop_halfway)
    assert len({key[0] for key in known}) == 2
    assert heard[0][0] == 0
    assert "0 of 4 cells" in heard[0][1]


@pytest.mark.slow
def test_the_command_line_and_the_page_say_the_same(tiny_run, cells, tmp_path):
    from leukodash.explain.files import classify_files, classify_paths
    from leukodash.explain.predict import load

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
def test_folders_archives_and_smears_stand_for_their_cells(tiny_run, cells, tmp_path):
    from leukodash.explain.files import classify_paths, gather

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
    files, faults = gather(paths)
    assert files[0] == folder / "cell.png"
    names = [file[0] for file in files[1:]]
    assert names[0] == f"{tmp_path / 'some.zip'}/in/cell.png"
    assert names[-1] == f"{tmp_path / 'smear.png'}, cell 1"
    assert str(tmp_path / "broken.zip") in [name for name, _ in faults]
    table = classify_paths(paths, [tiny_run()], tmp_path / "maps.zip", method="hirescam", target="all", layer="conv2")
    assert list(table.loc[table["error"] == "", "p_all"] > 0) == [True] * 3
    assert (table.loc[table["error"] != "", "run"] == "").all()
    with zipfile.ZipFile(tmp_path / "maps.zip") as archive:
        assert len(archive.namelist()) == 3


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_gets_a_sentence(tiny_run, cells, tmp_path):
    from leukodash.explain.files import classify_paths

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be written"):
        classify_paths(cells[:1], [tiny_run()], overlays=tmp_path / "file" / "maps")


# ------------------------------------------------------------------------------------------------ real cells


@pytest.mark.slow
@pytest.mark.real
def test_heat_lies_on_the_cell_where_a_trained_mobilenet_sees_one(real_weights, real_cnmc):
    from leukodash.explain.cam import heat
    from leukodash.explain.gradients import Cut
    from leukodash.models.backbones import BACKBONES
    from leukodash.models.build import build
    from leukodash.models.weights import find_weights

    row = BACKBONES["mobilenet"]
    config = RunConfig(data="none", backbone="mobilenet", head=())
    model = build(config, 2, find_weights(row))
    files = sorted((real_cnmc / "fold_1").glob("*/*"))[::180][:20]
    images = np.stack([square(read_image(path), 224) for path in files])
    cut = Cut(model, row.cam_layer, 2)
    _, activations, gradients, _ = cut.gradients(images.astype(np.float32), np.zeros(len(images)))
    maps = heat("eigencam", activations, gradients)  # of no class: the head is untrained
    middle = maps[:, 2:5, 2:5].mean(axis=(1, 2))  # cells lie in the middle of their frames
    border = np.concatenate([maps[:, 0], maps[:, 6]], axis=1).mean(axis=1)
    assert (middle > border).mean() >= 0.9
