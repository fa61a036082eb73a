import itertools
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import filelock
import numpy as np
import pytest
from bad_uploads import ENDINGS, opencv, pillow
from PIL import Image

from leukodash import settings
from leukodash.data import images
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store, cell_store_key, read_image, square
from leukodash.errors import DataError, ImageError

RED = np.full((8, 12, 3), (200, 30, 40), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_become_eight(ending):
    gray = np.linspace(0, 65535, 12 * 8).astype(np.uint16).reshape(8, 12)
    np.testing.assert_array_equal(read_image(opencv(gray, ending))[:, :, 1], np.round(gray / 257))
    color = NOISE.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(opencv(color, ending)), NOISE)


SMOOTH = cv2.GaussianBlur(cv2.resize(NOISE, (60, 48)), (0, 0), 3)
GRADIENT = np.linspace(0, 65535, 48 * 60).astype(np.uint16).reshape(48, 60)
TRANSLUCENT = np.dstack([SMOOTH, np.tile(np.linspace(0, 255, 60).astype(np.uint8), (48, 1))])


def formats():
    """Yield (description, bytes, tolerance) of the same images in the formats that cameras and programs write."""
    color, gray = Image.fromarray(SMOOTH), Image.fromarray(SMOOTH).convert("L")
    palette, two_tone, cmyk = color.quantize(64), gray.convert("1"), color.convert("CMYK")
    for image in (color, gray, palette, two_tone, color.convert("RGBA")):
        yield f"bmp {image.mode}", pillow(image, "BMP"), 0
    for image in (gray, palette, two_tone):
        yield f"png {image.mode}", pillow(image, "PNG"), 0
    yield "png four bits", pillow(gray.quantize(16), "PNG", bits=4), 0
    for ending, deep in itertools.product(("png", "tif"), (SMOOTH.astype(np.uint16) * 257 + 128, GRADIENT)):
        yield f"{ending} 16 bits {deep.shape}", opencv(deep, ending), 1
    for subsampling, progressive in itertools.product(("4:4:4", "4:2:2", "4:2:0"), (False, True)):
        options = {"quality": 90, "subsampling": subsampling, "progressive": progressive}
        yield f"jpeg {options}", pillow(color, "JPEG", **options), 2
    yield "jpeg gray", pillow(gray, "JPEG"), 2
    yield "jpeg cmyk", pillow(cmyk, "JPEG", quality=95), 4
    for packing in (None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"):
        yield f"tiff {packing}", pillow(color, "TIFF", compression=packing), 0
    yield "tiff jpeg", pillow(color, "TIFF", compression="jpeg"), 4
    yield "tiff palette", pillow(palette, "TIFF"), 0
    yield "tiff fax", pillow(two_tone, "TIFF", compression="group4"), 0
    yield "webp", pillow(color, "WEBP", quality=90), 2
    yield "webp lossless", pillow(color, "WEBP", lossless=True), 0
    for turn, form in zip(range(2, 9), ["JPEG", "PNG", "WEBP", "TIFF"] * 2, strict=False):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield f"{form} turned {turn}", pillow(color, form, exif=exif, **{"lossless": True} if form == "WEBP" else {}), 2


def test_every_format_is_read_as_by_opencv():
    for name, data, tolerance in formats():
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        image = read_image(data)
        assert (image.shape, image.dtype, image.flags.writeable) == (expected.shape, np.uint8, True), name
        assert np.abs(image.astype(int) - expected).max() <= tolerance, name


def test_alpha_is_composited_on_black():
    image = TRANSLUCENT[:, :, [2, 1, 0, 3]]
    deep = image.astype(np.uint16) * 257
    for ending, pixels in (("png", image), ("png", deep), ("tif", image), ("tif", deep), ("webp", image)):
        data = cv2.imencode(f".{ending}", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
        expected = SMOOTH * (TRANSLUCENT[:, :, 3:] / 255)
        assert np.abs(read_image(data) - expected).max() <= 1, (ending, pixels.dtype)


def test_reading_in_bands_gives_the_same_pixels(monkeypatch):
    pictures = [
        pillow(Image.fromarray(TRANSLUCENT), "PNG"),
        pillow(Image.fromarray(SMOOTH).quantize(64), "PNG", transparency=3),
        pillow(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
        opencv(GRADIENT, "png"),
    ]
    at_once = [read_image(data) for data in pictures]
    monkeypatch.setattr(images, "BAND", 60 * 7)  # the last band is shorter
    for data, expected in zip(pictures, at_once, strict=True):
        np.testing.assert_array_equal(read_image(data), expected)


def test_the_first_frame_of_several_is_read():
    for form in ("TIFF", "PNG", "MPO"):  # the last is a JPEG of several pictures
        data = pillow(Image.fromarray(RED), form, save_all=True, append_images=[Image.fromarray(255 - RED)])
        assert np.abs(read_image(data).astype(int) - RED).max() < 10


def test_a_refused_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"'x.png' cannot be read \(No such file"):
        read_image(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(b"no image at all")
    with pytest.raises(ImageError, match=r"'x.png' is not an image"):
        read_image(tmp_path / "x.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF tags
def test_damaged_bytes_raise_only_image_errors():
    random = np.random.default_rng(1)
    refused = 0
    for ending in ENDINGS:
        whole = opencv(NOISE, ending)
        for _ in range(100):
            data = bytearray(whole)
            for place in random.integers(0, min(len(data), 100), 3):
                data[place] = random.integers(256)
            try:
                assert min(read_image(bytes(data)).shape) > 0
            except ImageError:
                refused += 1
    assert refused > 50


def test_an_untrusted_name_is_shortened_and_sanitized():
    with pytest.raises(ImageError) as caught:
        read_image(b"x", "b" * 500 + "a\x1b[2J\n.png")
    assert str(caught.value).startswith("'…bbb")
    assert "ba?[2J?.png'" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("height", "width"), [(450, 450), (10, 10), (40, 20), (7, 90), (1, 500)])
def test_a_square_keeps_the_aspect_ratio_and_centers_the_image(height, width):
    image = square(np.full((height, width, 3), 255, np.uint8), 64)
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    for filled, side in ((image.any(axis=(1, 2)), height), (image.any(axis=(0, 2)), width)):
        length = max(1, round(64 * side / max(height, width)))
        np.testing.assert_array_equal(np.flatnonzero(filled), np.arange(length) + (64 - length) // 2)


def test_shrinking_to_a_third_averages_nine_pixels():
    means = NOISE[:39, :39].reshape(13, 3, 13, 3, 3).mean(axis=(1, 3))
    assert np.abs(square(NOISE[:39, :39], 13) - means).max() <= 0.51


@pytest.fixture
def cells(tmp_path):
    root = tmp_path / "cells"
    for row, label in enumerate(("blast", "normal")):
        (root / label).mkdir(parents=True)
        for number in range(5):
            image = NOISE[20 * row : 20 * row + 20, 5 * number : 5 * number + 24]
            (root / label / f"{number}.png").write_bytes(opencv(image, "png"))
    return root


@pytest.fixture
def store_path(cells):
    """The path of the store of 16×16 pixels, in a new folder."""
    path = settings.cache() / "cells" / f"{cell_store_key(load_dataset(cells), 16)}.npy"
    path.parent.mkdir(parents=True)
    return path


def test_the_store_holds_every_cell_in_order_and_is_written_once(cells, monkeypatch):
    dataset = load_dataset(cells)
    calls = []
    store = cell_store(dataset, 16, lambda *args: calls.append(args))
    assert isinstance(store, np.memmap)
    assert (store.shape, store.dtype, store.flags.writeable) == ((10, 16, 16, 3), np.uint8, False)
    for row, file in enumerate(dataset.cells["file"]):
        np.testing.assert_array_equal(store[row], square(read_image(cells / file), 16))
    assert calls == [(1.0, "decoding cells, 10 of 10")]
    monkeypatch.setattr(images, "read_image", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(cell_store(dataset, 16), store)


def test_the_key_depends_on_size_and_content_and_a_cell_that_changed_after_indexing_is_not_stored(cells):
    dataset = load_dataset(cells)
    keys = {cell_store_key(dataset, 16), cell_store_key(dataset, 17)}
    (cells / "blast" / "0.png").write_bytes(opencv(RED, "png"))
    with pytest.raises(DataError, match=r"'blast/0.png' changed after it was indexed"):
        cell_store(dataset, 16)
    keys.add(cell_store_key(load_dataset(cells), 16))
    assert [len(key) for key in keys] == [64] * 3


def test_unreadable_cells_are_named_and_no_file_remains(cells):
    for number in range(4):
        (cells / "blast" / f"{number}.png").write_text("no image")
    with pytest.raises(DataError) as caught:
        cell_store(load_dataset(cells), 16)
    message = str(caught.value)
    assert message.startswith("4 of 10 cells cannot be used. 'blast/0.png' is not an image")
    assert "'blast/2.png'" in message
    assert "'blast/3.png'" not in message
    assert message.endswith("And 1 more.")
    assert {path.suffix for path in (settings.cache() / "cells").iterdir()} <= {".lock"}


def test_a_full_disk_is_reported_before_anything_is_written(cells, monkeypatch):
    usage = shutil.disk_usage(cells)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"need 0.00 GB .* set LEUKODASH_CACHE to another disk"):
        cell_store(load_dataset(cells), 16)


def test_an_unwritable_cache_is_reported(cells, tmp_path, monkeypatch):
    dataset = load_dataset(cells)
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEUKODASH_CACHE", str(tmp_path / "file"))
    for attempt in (lambda: cell_store(dataset, 16), lambda: load_dataset(cells)):
        with pytest.raises(DataError, match=r"is not writable .*: set LEUKODASH_CACHE"):
            attempt()


def test_a_second_process_waits_for_the_first(cells, store_path):
    calls, waiting = [], threading.Event()

    def progress(fraction, words):
        calls.append(words)
        waiting.set()

    with ThreadPoolExecutor() as pool:
        with filelock.FileLock(store_path.with_suffix(".lock")):
            result = pool.submit(cell_store, load_dataset(cells), 16, progress)
            assert waiting.wait(20)
            np.save(store_path, np.full((10, 16, 16, 3), 7, np.uint8))  # what the holder of the lock would have written
        assert (result.result(20) == 7).all()
    assert calls == ["waiting for another run, which is decoding the cells"]


def test_a_temporary_file_of_a_killed_process_is_overwritten(cells, store_path):
    store_path.with_suffix(".tmp").write_bytes(b"half a store")
    assert cell_store(load_dataset(cells), 16).shape == (10, 16, 16, 3)
    assert not store_path.with_suffix(".tmp").exists()


@pytest.mark.real
def test_real_cells_are_read_as_by_opencv(real_cnmc):
    for file in sorted((real_cnmc / "fold_0" / "all").iterdir())[:20]:
        np.testing.assert_array_equal(read_image(file), cv2.imread(str(file))[:, :, ::-1])
