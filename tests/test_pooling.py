"""Pooling over the cell: NumPy, Keras and ONNX agree, and the evidence of all positions adds up to the score."""

import numpy as np
import pytest

from leukodash.models.pooling import TINY, averaging, cell_mask, pool


@pytest.fixture
def images():
    """Cells on black: one in the middle, one at the edge, one that fills the picture, and one that is not there."""
    pixels = np.random.default_rng(0).integers(20, 255, (4, 32, 32, 3)).astype(np.float32)
    pixels[0, :8] = pixels[0, 24:] = pixels[0, :, :9] = 2
    pixels[1, :, 5:] = 0
    pixels[3] = 0
    return pixels


@pytest.mark.parametrize(("pixels", "positions"), [(8, 4), (7, 3), (10, 10), (224, 27)])
def test_a_line_of_pixels_is_averaged_by_what_each_position_covers(pixels, positions):
    matrix = averaging(pixels, positions)
    assert np.allclose(matrix.sum(axis=1), 1) and np.allclose(matrix.sum(axis=0), positions / pixels)
    assert np.allclose(matrix @ np.ones(pixels), 1)


def test_a_mask_is_what_is_not_black_and_a_black_picture_counts_whole(images):
    mask = cell_mask(images)
    assert mask[0, 8:24, 9:].all() and mask[0].sum() == 16 * 23
    assert mask[1].sum() == 5 * 32 and mask[2].all() and mask[3].all()


def test_statistics_are_numpys_over_the_cell_and_over_all_positions_without_black(images):
    maps = np.random.default_rng(1).normal(size=(4, 32, 32, 3)).astype(np.float32)
    found = pool(maps, cell_mask(images))
    inside = maps[0, 8:24, 9:].reshape(-1, 3)
    expected = np.concatenate([inside.mean(axis=0), np.sqrt(inside.var(axis=0) + TINY)])
    assert np.allclose(found.pooled[0], expected, atol=1e-5)
    for whole in (2, 3):
        assert np.allclose(found.pooled[whole, :3], pool(maps, None).pooled[whole], atol=1e-5)


@pytest.mark.parametrize("over_cell", [False, True])
def test_evidence_adds_up_to_the_score_and_gradients_are_its_slopes(images, over_cell):
    rng = np.random.default_rng(2)
    maps, mask = rng.normal(size=(4, 9, 9, 5)), cell_mask(images) if over_cell else None
    pooled = pool(maps, mask)
    slopes = rng.normal(size=pooled.pooled.shape)
    score = (pooled.pooled * slopes).sum(axis=1)
    assert np.allclose(pooled.evidence(slopes).sum(axis=(1, 2)), score, atol=1e-5)
    change = rng.normal(size=maps.shape)
    moved = [(pool(maps + sign * 1e-4 * change, mask).pooled * slopes).sum(axis=1) for sign in (1, -1)]
    along = (pooled.gradients(slopes) * change).sum(axis=(1, 2, 3))
    assert np.allclose((moved[0] - moved[1]) / 2e-4, along, atol=1e-4)
    if over_cell:
        beside = pooled.evidence(slopes)[1, :, 2:]  # the cell is at the left edge
        assert not beside.any()


@pytest.mark.slow
def test_keras_and_onnx_pool_as_numpy_does(images, tmp_path):
    import keras
    import onnxruntime

    from leukodash.models.build import CellMask, CellStatistics
    from leukodash.models.onnx_graph import write_onnx

    cell = keras.Input((32, 32, 3), name="cell")
    maps = keras.layers.Conv2D(4, 3, strides=3, name="maps")(cell)
    pooled = CellStatistics(name="pooled")([maps, CellMask(name="mask")(cell)])
    model = keras.Model(cell, [maps, pooled])
    computed, keras_pooled = (np.asarray(each) for each in model.predict_on_batch(images))
    expected = pool(computed, cell_mask(images)).pooled
    assert np.allclose(keras_pooled, expected, rtol=1e-4, atol=1e-3)
    write_onnx(tmp_path / "pooled.onnx", cell, {"pooled": pooled})
    session = onnxruntime.InferenceSession(str(tmp_path / "pooled.onnx"))
    assert np.allclose(session.run(["pooled"], {"cell": images})[0], expected, rtol=1e-4, atol=1e-3)


def test_what_a_coarse_map_adds_is_spread_over_the_cell_alone():
    from leukodash.cam.pooled_network import _spread

    rng = np.random.default_rng(3)
    weight = np.zeros((2, 12, 12), np.float32)
    weight[0, 2:7, 3:9] = rng.uniform(0.2, 1, (5, 6))
    weight[1] = 1
    coarse = averaging(12, 3) @ weight @ averaging(12, 3).T
    evidence = rng.normal(size=(2, 3, 3)) * (coarse > 0)
    fine = _spread(evidence, weight)
    assert np.allclose(fine.sum(axis=(1, 2)), evidence.sum(axis=(1, 2)), atol=1e-5)
    assert not fine[0][weight[0] == 0].any()
    assert np.allclose(fine[1, :4, :4], evidence[1, 0, 0] / 16, atol=1e-6)
