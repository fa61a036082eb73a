"""Networks in the server's memory: bounded by their size, freed when evicted, and safe for several sessions."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from leukodash import settings
from leukodash.app import common
from leukodash.inference.classifier import load
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models import program

pytestmark = pytest.mark.slow


@pytest.fixture
def served(monkeypatch):
    """The app's function that loads a run, with an empty cache."""
    common._classifiers.clear()
    yield lambda run: common.classifier(str(run.path))
    common._classifiers.clear()


def test_a_network_that_was_not_used_for_longest_is_freed_with_its_program(
    served, tiny_run, pretend_weights, monkeypatch
):
    runs = [tiny_run(backbone, weights="imagenet", precision="float32") for backbone in ("alexnet", "mobilenet")]
    for run in runs:
        load(run)  # writes the programs, so that later ones need no Keras
    monkeypatch.setattr(settings, "model_limit_bytes", lambda: 4 * runs[0].model["parameters"])
    kept = weakref.ref(served(runs[0]))
    assert served(runs[0]) is kept()
    before = set(program._programs)
    served(runs[1])
    gc.collect()  # as Streamlit does after each run of a page
    assert kept() is None
    assert len(before) == 1
    assert before.isdisjoint(program._programs)


def test_a_built_keras_model_counts(served, tiny_run, pretend_weights):
    run = tiny_run("alexnet", weights="imagenet", precision="float32")
    load(run)
    network = served(run)
    before = network.size_bytes
    assert before == 4 * run.model["parameters"]
    network.load_keras()
    assert network.size_bytes > 2 * before


def test_a_public_demo_keeps_fewer_networks(monkeypatch):
    own = settings.model_limit_bytes()
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    assert settings.model_limit_bytes() < own / 2


def watch(monkeypatch):
    """Return a list of what is done to Keras models without the lock from now on: building, calling, changing."""
    import keras

    from leukodash.inference.classifier import MODEL_LOCK

    found = []

    def watched(name):
        function = getattr(keras.Model, name)

        def call(self, *args, **options):
            if not MODEL_LOCK._is_owned():
                found.append(name)
            return function(self, *args, **options)

        monkeypatch.setattr(keras.Model, name, call)

    for name in ("__call__", "predict_on_batch", "set_weights", "load_weights"):
        watched(name)
    functional = keras.src.models.functional.Functional
    build = functional.__init__

    def built(self, *args, **options):
        if not MODEL_LOCK._is_owned():
            found.append("__init__")
        build(self, *args, **options)

    monkeypatch.setattr(functional, "__init__", built)
    return found


@pytest.mark.parametrize("train_from", ["head", "conv5"])
def test_no_session_touches_a_keras_model_while_another_one_uses_it(tiny_run, pretend_weights, monkeypatch, train_from):
    from leukodash.explain.feature_maps import feature_maps
    from leukodash.explain.sanity_checks import randomization_test

    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    run = tiny_run(weights="imagenet", train_from=train_from, precision=precision)
    unlocked = watch(monkeypatch)
    network = load(run)
    cell = np.full((64, 64, 3), 90, np.uint8)
    network.predict([cell])
    network.answer([cell], layer=network.layers[1])
    feature_maps(network, cell)
    randomization_test(network, [cell], "gradcam", "all", draws=2)
    assert unlocked == []


def test_sessions_that_load_classify_and_look_inside_at_once_get_the_same_answers(tiny_run, pretend_weights):
    from leukodash.explain.feature_maps import feature_maps

    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    run = tiny_run("alexnet", weights="imagenet", train_from="conv5", precision=precision)
    shared = load(run)
    cells = [np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8) for seed in range(8)]
    expected = shared.predict(cells)

    def session(number):
        network = load(run) if number % 3 == 0 else shared
        for count in (1, 3, 8):
            assert np.allclose(network.predict(cells[:count]), expected[:count], atol=1e-2)
            assert len(network.answer(cells[:count], layer=network.layers[number % 2])["gradcam"]) == count
            assert len(feature_maps(shared, cells[number])) == 3
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(session, range(8))) == list(range(8))
