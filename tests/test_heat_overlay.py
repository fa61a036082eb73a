import cv2
import numpy as np
import pytest

from leukodash.figures.heat_overlay import COLOR_MAPS, color_bar, overlay


def test_opacity_0_gives_the_image_and_opacity_1_the_heat_map():
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    heat_map = rng.random((30, 40))
    np.testing.assert_array_equal(overlay(image, heat_map, opacity=0), image)
    colors = cv2.applyColorMap(np.rint(heat_map * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    np.testing.assert_array_equal(overlay(image, heat_map, opacity=1), cv2.cvtColor(colors, cv2.COLOR_BGR2RGB))


def test_a_coarse_heat_map_is_aligned_with_the_image():
    coarse = np.zeros((7, 7))
    coarse[0, 6] = 1
    shown = overlay(np.zeros((70, 70, 3), np.uint8), coarse, opacity=1).sum(axis=2)
    assert np.unravel_index(shown.argmax(), shown.shape) in {(y, x) for y in range(6) for x in range(64, 70)}


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_color_maps_increase_in_lightness(name):
    ramp = color_bar(name, 256, 1)
    lightness = cv2.cvtColor(ramp, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all()  # OpenCV rounds its tables to 8 bits
    assert lightness[-1] - lightness[0] > 150
