"""Frozen networks as programs: the same features, classes and heat maps as Keras gives, without Keras."""

import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from leukodash import settings
from leukodash.cam.gradient_result import PREDICTED
from leukodash.cam.methods import GRADIENT_METHODS, heat_maps
from leukodash.config.run_config import RunConfig
from leukodash.data.images import read_image
from leukodash.models.backbones import BACKBONES, SCALING
from leukodash.models.head import Head, read_head
from leukodash.models.program import find_program, load_program, pooled_features, preprocess, write_program

SHA256 = "0" * 64


def network(backbone, **changes):
    """A network whose random weights give varied outputs, and its config."""
    import keras

    from leukodash.models.build import build

    config = RunConfig(data="cells", backbone=backbone, input_size=96, head=(7, 0.5), **changes)
    config = config.changed(input_size=max(96, config.spec.min_size))
    model, rng = build(config, 2, None), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model, config


def cells(config, number=2):
    shape = number, config.input_size, config.input_size, 3
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_program_gives_the_pooled_features_of_every_backbone(backbone):
    import keras

    model, config = network(backbone, pooling="blocks")
    program = load_program(write_program(config.spec, model, SHA256))
    pooled, maps = pooled_features(program, config)(cells(config), True)
    expected = keras.Model(model.input, model.get_layer("pool").output).predict_on_batch(cells(config))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(pooled, expected, atol=5e-4 * np.abs(expected).max())
    np.testing.assert_allclose(np.concatenate([m.mean(axis=(1, 2)) for m in maps], axis=1), pooled, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["average", "blocks"])
def test_class_gradients_and_heat_maps_equal_those_that_keras_differentiates(pooling, monkeypatch):
    from leukodash.cam.gradients import GradientModel
    from leukodash.cam.pooled_network import PooledNetwork, keras_network
    from leukodash.models.head import head_of

    model, config = network("mobilenet", pooling=pooling)
    program, head = load_program(write_program(config.spec, model, f"{pooling:0<64}")), head_of(model)
    light = PooledNetwork(pooled_features(program, config), lambda: head, 2)
    images, target = cells(config), np.array([PREDICTED, 1])
    ours = light.gradients(images, target)
    exact = GradientModel(model, config.spec.cam_layer, 2).gradients(images, target)
    for name, values in exact._asdict().items():
        if name != "evidence":
            np.testing.assert_allclose(getattr(ours, name), values, atol=1e-4 * np.abs(values).max(), err_msg=name)
    for method in GRADIENT_METHODS:
        maps = [heat_maps(method, result.activations, result.gradients) for result in (ours, exact)]
        np.testing.assert_allclose(*maps, atol=2e-3, err_msg=method)
    same = keras_network(model, config, 2).gradients(images, target)
    np.testing.assert_allclose(same.evidence, ours.evidence, atol=1e-3 * np.abs(ours.evidence).max())


@pytest.mark.slow
def test_the_evidence_adds_up_to_the_difference_of_the_scores():
    from leukodash.cam.pooled_network import PooledNetwork
    from leukodash.models.head import head_of

    model, config = network("mobilenet", pooling="blocks")
    head = head_of(model)
    kernel = np.random.default_rng(2).normal(size=(len(head.mean), 2)).astype(np.float32)
    linear = Head(head.mean, head.deviation, ((kernel, np.float32([0.3, -0.2])),))
    features = pooled_features(load_program(write_program(config.spec, model, SHA256)), config)
    light = PooledNetwork(features, lambda: linear, 2)
    result = light.gradients(cells(config), np.array([0, 1]))
    constant = linear.logits(np.zeros_like(result.pooled[:1]))[0]
    difference = (result.logits - constant) @ np.array([1, -1])
    np.testing.assert_allclose(result.evidence.mean(axis=(1, 2)), difference * [1, -1], rtol=1e-3, atol=1e-4)


def test_a_head_with_a_hidden_layer_by_hand():
    hidden = np.eye(2, dtype=np.float32), np.float32([0, -9])
    last = np.float32([[3, 0], [5, 1]]), np.float32([0.5, 0])
    head = Head(np.float32([1, 0]), np.float32([2, 1]), (hidden, last))
    pooled = np.float32([[5, 4]])  # normalized (2, 4), hidden (2, -5 → 0)
    np.testing.assert_allclose(head.logits(pooled), [[6.5, 0]])
    np.testing.assert_allclose(head.gradients(pooled, np.float32([[1, 0]])), [[1.5, 0]])


@pytest.mark.parametrize("mode", SCALING)
def test_preprocessing_is_that_of_the_model(mode):
    image = np.float32([[[[255, 0, 51]]]])
    scale, offset = SCALING[mode]
    channels = [51, 0, 255] if mode in ("caffe", "bvlc") else [255, 0, 51]
    expected = np.array(channels) * scale + np.array(offset)
    np.testing.assert_allclose(preprocess(image, mode)[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.slow
def test_shipped_weights_load_into_keras_and_are_the_shipped_program(monkeypatch, tmp_path):
    from leukodash.models.build import build
    from leukodash.models.weights import find_weights, identity, obtain_weights

    spec = BACKBONES["mobilenet"]
    path = find_weights(spec)
    assert identity(path) == spec.weights.shipped_sha256
    other = tmp_path / spec.weights.name  # such as the publisher's
    shutil.copy(path, other)
    with h5py.File(other, "r+") as file:
        del file.attrs["source_sha256"]
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path))
    assert obtain_weights(spec) == other
    assert obtain_weights(spec, sha256=spec.weights.shipped_sha256) == path
    config = RunConfig(data="cells", backbone="mobilenet", input_size=96)
    model = build(config, 2, path)
    shipped = find_program(spec, spec.weights.shipped_sha256)
    assert shipped == settings.asset("mobilenet.onnx")
    features = [
        pooled_features(load_program(program), config)(cells(config), False)[0]
        for program in (shipped, write_program(spec, model, SHA256))
    ]
    np.testing.assert_allclose(*features, atol=1e-4)
    assert find_program(spec, None) is None
    assert find_program(BACKBONES["vgg16"], SHA256) is None


def test_real_cells_are_classified_without_tensorflow(monkeypatch):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    code = """
import sys
from pathlib import Path
from leukodash import settings
from leukodash.inference.classify_files import classify_paths
from leukodash.runs.leaderboard import first_run
from leukodash.runs.run_folder import published_runs
run = first_run([run for run in published_runs() if run.config.split.test_fold == 1 and run.weights.is_file()])
table = classify_paths(sorted(settings.asset("cells/fold_1").rglob("*.webp")), [run])
assert len(table) == 24 and not (table["error"] != "").any()
right = [path.split("/")[-2] == label for path, label in zip(table["file"], table["class"])]
assert sum(right) == 18, right
sys.exit(f"{loaded} was imported" if (loaded := {"tensorflow", "keras"} & set(sys.modules)) else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.real
def test_published_runs_answer_as_when_they_were_tested(real_cnmc, monkeypatch):
    from leukodash.inference.classifier import load
    from leukodash.runs.run_folder import published_runs

    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    runs = [run for run in published_runs() if run.weights.is_file() and run.config.backbone == "mobilenet"]
    assert len(runs) > 6
    for run in runs:
        rows = run.predictions.query("part == 'test'").iloc[::600]
        answers = load(run).predict([read_image(real_cnmc / file) for file in rows["file"]])
        stored = rows[["p_all", "p_hem"]].to_numpy()
        np.testing.assert_allclose(answers, stored, atol=1e-3)
        assert (answers.argmax(axis=1) == stored.argmax(axis=1)).all()


@pytest.mark.slow
def test_a_network_with_an_unknown_layer_has_no_program(monkeypatch):
    from leukodash.models import onnx_graph

    model, config = network("alexnet")
    monkeypatch.delitem(onnx_graph._LAYERS, "MaxPooling2D")
    assert write_program(config.spec, model, SHA256) is None
    assert find_program(config.spec, SHA256) is None


def test_a_damaged_head_gets_a_sentence(tmp_path):
    from leukodash.errors import WeightsError

    (tmp_path / "trained.weights.h5").write_bytes(b"not a file")
    with pytest.raises(WeightsError, match="train the run again"):
        read_head(tmp_path / "trained.weights.h5")
