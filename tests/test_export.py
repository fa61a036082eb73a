import dataclasses
import errno
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock
from made_runs import METRICS, made_run

from leukodash.config.run_config import RunConfig
from leukodash.data.demo_cells import demo_cell, subject_stain
from leukodash.data.images import read_image, square
from leukodash.errors import RunError
from leukodash.export import export_jobs
from leukodash.export import model_export as exporting
from leukodash.export.export_formats import FORMATS, METADATA, NOTICE
from leukodash.export.export_jobs import job_status, start_export
from leukodash.export.model_export import Exported, export, metadata
from leukodash.inference.decision import decision
from leukodash.jobs.hardware import cpu_has_bfloat16, memory_left
from leukodash.runs.locks import is_held
from leukodash.runs.run_folder import create_run

PLAIN_KERAS = """
import sys
sys.modules["leukodash"] = None  # importing it raises
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict_on_batch(np.load(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def cells():
    """50 generated cells, uint8 (50, 64, 64, 3)."""
    rng = np.random.default_rng(1)
    return np.stack([square(demo_cell(rng, n % 2 == 0, subject_stain(rng))[0], 64) for n in range(50)])


@pytest.fixture
def spread_run(cells):
    """Return a function that makes a run with random weights whose probabilities spread from 0 to 1."""

    def make(backbone, **settings):
        import keras

        from leukodash.models.build import build, save_trained

        start = {"weights": "random", "train_from": "all", "batchnorm": "trained", "head": ()}
        config = RunConfig(data="/nowhere", backbone=backbone, input_size=64, **start, **settings)
        model = build(config, 2, None)
        pooled = keras.Model(model.input, model.get_layer("pool").output)(cells[:20].astype(np.float32)).numpy()
        kernel = np.random.default_rng(0).standard_normal((pooled.shape[1], config.outputs or 2))
        kernel *= 2 / (pooled @ kernel).std(axis=0)
        model.get_layer("logits").set_weights([kernel, -(pooled @ kernel).mean(axis=0)])
        run = create_run(config)
        save_trained(model, run.path / "trained.weights.h5")
        made = {"classes": ["all", "hem"], "positive": "all", "precision": "float32", "random_start": False}
        run.write("model.json", {**made, "weights_sha256": None, "parameters": model.count_params()})
        run.write("metrics.json", METRICS)
        return run

    return make


def check_probabilities(probabilities, run, cells):
    """The app gives these probabilities of the cells."""
    from leukodash.inference.classifier import load

    expected = load(run).predict(cells)
    assert np.ptp(expected[:, 0]) > 0.3  # otherwise any file would agree
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def check_failed(run, format, words):
    job = job_status(run, format)
    assert job.state == "failed"
    assert re.search(words, job.words)


def zipped_notes(made):
    return json.loads(zipfile.ZipFile(made.path).read(METADATA))


# All backbones in all formats: python -m benchmarks.export


@pytest.mark.slow
def test_onnx_runtime_gives_the_apps_probabilities_and_the_file_has_no_rare_operations(spread_run, cells, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    import onnx

    run = spread_run("googlenet", outputs=3)  # Mamaev's third unit is removed
    made = export(run, "onnx", tmp_path / "out")
    (found,) = runtime.InferenceSession(str(made.path)).run(["probabilities"], {"cell": cells.astype(np.float32)})
    check_probabilities(found, run, cells)
    model = onnx.load(made.path)
    assert not {node.op_type for node in model.graph.node} & {"ReverseSequence", "Loop", "If", "Scan"}
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert (json.loads(notes["classes"]), notes["notice"]) == (["all", "hem"], NOTICE)
    assert "(n, 64, 64, 3), RGB, 0 to 255" in notes["input"]


@pytest.mark.slow
def test_the_file_of_a_run_that_averages_views_says_so_and_is_checked_on_all_views(spread_run, cells, tmp_path):
    import keras

    run = spread_run("alexnet", flips="views", average_views=True)
    made = export(run, "keras", tmp_path / "out")
    model = keras.saving.load_model(made.path)
    turned = [np.rot90(some, k, axes=(1, 2)) for some in (cells, cells[:, :, ::-1]) for k in range(4)]
    mean = np.mean([model.predict_on_batch(some.astype(np.float32)) for some in turned], axis=0)
    check_probabilities(mean, run, cells)
    assert np.abs(model.predict_on_batch(cells.astype(np.float32)) - mean).max() > 1e-3
    assert (made.views, zipped_notes(made)["views"]) == (8, 8)
    assert made.words.startswith("The app averages 8 views of a cell; this file classifies one. Checked on")


@pytest.mark.slow
def test_the_litert_interpreter_gives_the_apps_probabilities(spread_run, cells, tmp_path):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    run = spread_run("alexnet", pooling="blocks")
    made = export(run, "litert", tmp_path / "out")
    interpreter = interpreter_module.Interpreter(str(made.path))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], cells.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], cells.astype(np.float32))
    interpreter.invoke()
    check_probabilities(interpreter.get_tensor(given["index"]), run, cells)
    assert zipped_notes(made) == metadata(run)


@pytest.mark.slow
def test_the_export_process_caches_a_keras_file_that_loads_without_leukodash(spread_run, cells, tmp_path):
    run = spread_run("googlenet")  # which has layers of LeukoDash
    assert export_jobs.main([str(run.path), "keras"]) == 0
    start_export(run, "keras")  # nothing to do
    job = job_status(run, "keras")
    assert (job.state, job.exported.path.name) == ("ready", f"{run.id}.keras")
    assert "to within" in job.exported.words
    assert zipped_notes(job.exported) == metadata(run)
    np.save(tmp_path / "cells.npy", cells.astype(np.float32))
    command = [sys.executable, "-c", PLAIN_KERAS, job.exported.path, tmp_path / "cells.npy", tmp_path / "found.npy"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    check_probabilities(np.load(tmp_path / "found.npy"), run, cells)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_gives_different_probabilities_is_discarded(wrong, spread_run, tmp_path, monkeypatch):
    right = FORMATS["keras"]
    changed = dataclasses.replace(right, outputs=lambda *args: right.outputs(*args) + wrong)
    monkeypatch.setitem(FORMATS, "keras", changed)
    with pytest.raises(RunError, match=r"different probabilities from the app .* discarded"):
        export(spread_run("alexnet"), "keras", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_run_in_bfloat16_is_exported_in_float32_and_the_difference_is_reported(spread_run, cells, tmp_path):
    if not cpu_has_bfloat16():
        pytest.skip("this machine serves bfloat16 runs in float32")
    run = spread_run("alexnet")
    exact = run.model
    run.write("model.json", exact | {"precision": "bfloat16"})
    made = export(run, "keras", tmp_path)
    assert made.precision == "bfloat16"
    assert made.difference <= 1e-4 < made.app_difference
    assert "computes this run in bfloat16" in made.words
    run.write("model.json", exact)
    check_probabilities(FORMATS["keras"].outputs(made.path, cells.astype(np.float32)), run, cells)


@pytest.mark.slow
def test_the_check_uses_cells_of_the_run_from_the_least_to_the_most_probable(tiny_run):
    run = tiny_run()
    rows = run.predictions.sort_values("p_all")
    cells = exporting.check_cells(run, 64)
    assert len(cells) == min(8, len(rows))
    for place in (0, -1):
        expected = square(read_image(Path(run.config.data) / rows["file"].iloc[place]), 64)
        np.testing.assert_array_equal(cells[place], expected)


def test_without_the_data_set_the_check_uses_generated_cells():
    cells = exporting.check_cells(made_run(), 32)
    assert (cells.shape, cells.dtype) == ((8, 32, 32, 3), np.float32)
    assert len({cell.tobytes() for cell in cells}) == 8
    assert 100 < cells.max() <= 255


def test_metadata_contain_the_threshold_and_temperature_of_the_validation_cells():
    run = made_run(skill=0.8)
    chosen, fields = decision(run, "validation"), json.loads(json.dumps(metadata(run)))
    assert 0 < chosen.threshold < 1
    assert (fields["threshold"], fields["temperature"]) == (chosen.threshold, chosen.temperature.value)


@pytest.mark.parametrize(
    ("precision", "app_difference", "other_class", "sentence"),
    [
        ("float32", 3e-7, 0, "Checked on 8 cells: its probabilities equal the app's to within 0.000001."),
        ("bfloat16", 0.012, 0, "by up to 0.01 and changes no class."),
        ("bfloat16", 0.012, 1, "by up to 0.01 and changes the class of 1 of them."),
    ],
)
def test_a_sentence_says_how_closely_a_file_matches_the_app(precision, app_difference, other_class, sentence):
    made = Exported(Path("x.keras"), 8, 3e-7, precision, app_difference, other_class)
    assert made.words.endswith(sentence)


def test_an_unknown_format_or_a_run_without_trained_layers_raises_an_error(tmp_path):
    for action in (lambda: export(made_run(), "pdf", tmp_path), lambda: start_export(made_run(seed=1), "pdf")):
        with pytest.raises(RunError, match=r"no format 'pdf'\. Choose one of keras, onnx, litert"):
            action()
    check_failed(made_run(seed=2), "keras", "no trained layers")


@pytest.fixture
def children(monkeypatch):
    """The export processes that were started; each ends when the test sets its exit status."""
    started = []

    def start(command, **_):
        child = SimpleNamespace(asked=command[-2:], code=None)
        child.poll = lambda: child.code
        started.append(child)
        return child

    monkeypatch.setattr(export_jobs.subprocess, "Popen", start)
    monkeypatch.setattr(export_jobs, "_running", None)
    monkeypatch.setattr(export_jobs, "_queue", [])
    return started


def finished_run(**more):
    run = made_run(**more)
    (run.path / "trained.weights.h5").write_bytes(b"layers")
    return run


def test_one_export_runs_at_a_time_and_the_others_are_queued(children):
    one, two = finished_run(seed=1), finished_run(seed=2)
    for run in (one, two, one):  # the third is queued already
        start_export(run, "onnx")
    assert (job_status(one, "onnx").state, job_status(two, "onnx").state) == ("running", "waiting")
    assert job_status(one, "keras").state == "none"
    children[0].code = 0
    assert job_status(two, "onnx").state == "running"
    assert [child.asked for child in children] == [[str(one.path), "onnx"], [str(two.path), "onnx"]]


def test_an_export_that_is_killed_says_so_and_can_be_tried_again(children):
    run = finished_run()
    start_export(run, "onnx")
    children[0].code = -9
    check_failed(run, "onnx", "perhaps for lack of memory")
    start_export(run, "onnx")
    assert (len(children), job_status(run, "onnx").state) == (2, "running")


def test_an_export_that_another_server_makes_is_running_here_too_and_is_not_made_twice(children):
    run = finished_run()
    start_export(run, "onnx")
    folder = export_jobs._export_folder(run)
    children[0].code = 0  # from here on, this server knows nothing of it
    with FileLock(folder / "onnx.lock"):
        (folder / "onnx.now").write_text('{"fraction": 0.5, "words": "writing ONNX"}')
        job = job_status(run, "onnx")
        start_export(run, "onnx")
    assert (job.state, job.fraction, job.words, len(children)) == ("running", 0.5, "writing ONNX", 1)
    check_failed(run, "onnx", "ended early")


def test_the_process_of_an_export_holds_its_lock_until_it_ends():
    run = finished_run()
    start_export(run, "onnx")
    _, process = export_jobs._running
    lock = export_jobs._export_folder(run) / "onnx.lock"
    assert is_held(lock)
    process.kill()
    process.wait()
    assert not is_held(lock)


def test_an_export_whose_process_cannot_be_started_says_why(children, monkeypatch):
    run = finished_run()
    monkeypatch.setattr(export_jobs.subprocess, "Popen", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    start_export(run, "onnx")
    check_failed(run, "onnx", "cannot be started .No space left")


def show_export(run):
    from leukodash.app.classify.export_part import export_part

    export_part([run])


def test_an_export_is_refused_if_memory_is_too_low(children, monkeypatch):
    monkeypatch.setattr(export_jobs, "memory_left", lambda: 500_000_000)
    with pytest.raises(RunError, match=r"takes about 1\.\d GB of memory, but only 0\.5 GB are free"):
        start_export(finished_run(), "onnx")
    assert not children


def test_memory_left_is_limited_by_the_container(tmp_path):
    machine, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    assert memory_left(tmp_path, machine) is None
    machine.write_text("MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n")
    (tmp_path / "memory.current").write_text("1500000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000000\n")
    assert memory_left(tmp_path / "none", machine) == 4_096_000_000
    for most, left in (("2700000000", 1_500_000_000), ("max", 4_096_000_000)):
        limit.write_text(most + "\n")
        assert memory_left(tmp_path, machine) == left


def test_a_failed_export_leaves_its_error_message(monkeypatch):
    run = finished_run()
    export_jobs._export_folder(run).mkdir(parents=True)
    monkeypatch.setattr(export_jobs, "export", Mock(side_effect=ValueError("no such operation\nand much more")))
    assert export_jobs.main([str(run.path), "litert"]) == 2
    check_failed(run, "litert", r"could not be made: ValueError: no such operation$")
