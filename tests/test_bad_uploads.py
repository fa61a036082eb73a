"""Untrusted uploads: over a hundred bad files get a clear sentence each, and good files among them are classified."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bad_uploads import NOISE, bad_uploads, odd_uploads, opencv, pillow, png, slow_jpeg, zipped
from PIL import Image
from streamlit.testing.v1 import AppTest

from leukodash import settings
from leukodash.data import images
from leukodash.data.archive import unpack
from leukodash.data.images import has_more_frames, read_image
from leukodash.errors import ImageError

ROOT = Path(__file__).resolve().parents[1]
BAD = bad_uploads()

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Pillow's, on damaged TIFF tags
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),  # between our limit and Pillow's
]


def test_every_one_of_over_a_hundred_bad_uploads_gets_one_clear_sentence():
    assert len({name for name, _, _ in BAD}) == len(BAD) >= 115
    assert bad_uploads() == BAD  # reproducible
    for name, data, words in BAD:
        with pytest.raises(ImageError) as caught:
            read_image(data, name)
        sentence = str(caught.value)
        assert re.search(words, sentence)
        assert sentence.isprintable()
        assert len(sentence) < 220
        assert re.fullmatch(r"'.{1,80}' (is|has|claims to have) .+\w\.", sentence)
        has_more_frames(data)  # the page calls it before reading: it must not raise either


def test_odd_uploads_are_read_and_further_frames_detected():
    for name, data, more in odd_uploads():
        image = read_image(data, name)
        assert (image.dtype, image.shape) == (np.uint8, (40, 50, 3)), name
        assert has_more_frames(data) is more, name
        if name in ("animated.png", "pages.tif", "junk behind the end.png", "png called.jpg"):
            np.testing.assert_array_equal(image, NOISE)


def test_the_limit_on_scans_allows_ordinary_progressive_jpegs(monkeypatch):
    ordinary = pillow(Image.fromarray(NOISE).resize((300, 200)), "JPEG", progressive=True)
    assert read_image(ordinary).shape == (200, 300, 3)
    monkeypatch.setattr(images, "_rgb", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="over 100 scans"):
        read_image(slow_jpeg(101))


def test_a_public_demo_has_a_lower_limit_on_pixels(monkeypatch):
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    with pytest.raises(ImageError, match="has 5,000 × 4,000 pixels, over the limit of 16 million"):
        read_image(png(5_000, 4_000))


MEASURE = """
import contextlib, json, sys, warnings
sys.path[:0] = ["tests", "."]
warnings.simplefilter("ignore")
from pathlib import Path
from bad_uploads import bad_uploads, odd_uploads, png, deflated
from leukodash.data.images import has_more_frames, read_image
from leukodash.errors import ImageError

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

files = [upload[:2] for upload in bad_uploads() + odd_uploads()]
largest = png(7_000, 7_000, 1, 0, deflated(7_000 * 876))
read_image(png(64, 64, pixels=deflated(64 * 193)))  # makes Pillow load its plugins
before = peak()
for name, data in files:
    has_more_frames(data)
    with contextlib.suppress(ImageError):
        read_image(data, name)
small = peak()
assert read_image(largest).shape == (7_000, 7_000, 3)
print(json.dumps({"bad": small - before, "largest": peak() - before}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_bad_uploads_need_little_memory_and_the_largest_image_a_limited_amount():
    shown = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, cwd=ROOT)
    peak = json.loads(shown.stdout)
    assert peak["bad"] < 50e6
    assert peak["largest"] < 300e6  # 49 million pixels: 147 MB for the result, and one byte each for the decoder


@pytest.mark.slow
def test_good_files_among_bad_ones_are_classified(tiny_run):
    from leukodash.inference.classifier import load
    from leukodash.inference.classify_files import classify_files

    run = tiny_run()
    tested = run.predictions.query("part == 'test'")
    good = [(Path(file).name, (Path(run.config.data) / file).read_bytes()) for file in tested["file"]]
    bad = [(name, data) for name, data, _ in BAD]
    mixed = [file for number, cell in enumerate(good) for file in (*bad[number :: len(good)], cell)]
    table, maps = classify_files([load(run)], mixed)
    assert list(table["position"]) == list(range(len(mixed)))
    assert (table["error"] != "").sum() == len(bad)
    answered = table[table["error"] == ""]
    assert [mixed[position] for position in answered["position"]] == good
    np.testing.assert_allclose(answered["p_all"], tested["p_all"], atol=1e-6)
    assert [heat is not None for heat in maps] == list(table["error"] == "")


@pytest.mark.slow
def test_the_page_handles_all_bad_uploads_at_once_and_in_a_zip(tiny_run):
    run = tiny_run()
    path = Path(run.config.data) / run.predictions.query("part == 'test'")["file"].iloc[0]
    files = [("good.png", path.read_bytes())]
    # Streamlit itself refuses surrogates and zero bytes in names, which no browser sends.
    files += [(name.replace("\ud800", "?").replace("\0", "?"), data) for name, data, _ in BAD]
    singly = [(*file, "image/png") for file in files]
    for uploads in (singly, [("all.zip", zipped(files), "application/zip")]):
        at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
        at.query_params["own"] = "true"
        at.switch_page("pages/classify.py").run()
        at.file_uploader(key="uploads").set_value(uploads).run()
        assert not at.exception
        assert at.error
        words = "\n".join(element.value for element in at.markdown)
        assert "1 cell: " in words.replace("\\", "")
        assert "<script>" not in words.replace(r"\<", "")


def test_bad_files_in_a_zip_are_unpacked_unchanged():
    files = [(f"{number}.png", data) for number, (_, data, _) in enumerate(BAD)] + [("good.png", opencv(NOISE, "png"))]
    assert unpack(zipped(files), "all.zip", 1000, settings.MAX_UPLOAD_MB * 10**6).files == files
