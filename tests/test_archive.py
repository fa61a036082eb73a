import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from bad_uploads import pillow, zipped
from PIL import Image

from leukodash.data.archive import MAX_MEMBERS, safe_name, unpack
from leukodash.errors import ImageError

MB = 10**6


def png(seed=0):
    return pillow(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)), "PNG")


def patched(data, names, **fields):
    """Return a ZIP with fields of these members overwritten, in the local headers and the central directory."""
    result = bytearray(data)
    for name in names:
        local, central = data.find(name.encode()) - 30, data.rfind(name.encode()) - 46
        places = {"flags": (6, "<H"), "method": (8, "<H"), "crc": (14, "<I"), "size": (22, "<I"), "mode": (36, "<I")}
        for field, value in fields.items():
            offset, form = places[field]
            struct.pack_into(form, result, central + offset + 2, value)
            if field != "mode":  # which only the directory has
                struct.pack_into(form, result, local + offset, value)
    return bytes(result)


def unpack_all(data, most=1000, most_bytes=100 * MB, **options):
    return unpack(data, "cells.zip", most, most_bytes, **options)


def test_images_of_all_formats_are_unpacked_with_their_folders_in_order():
    names = ("a.PNG", "all/b.JPeG", "all/c.bmp", "d.TIF", "e.tiff", "f.webp", "a.jpg")
    cells = [(name, png(number)) for number, name in enumerate(names)]
    assert unpack_all(zipped([("all/", b""), *cells])) == (cells, [], [])
    assert unpack_all(zipped(cells, zipfile.ZIP_STORED)).files == cells
    assert unpack_all(b"MZ program" * 10 + zipped(cells)).files == cells  # a self-extracting archive


def test_system_files_are_skipped_silently_and_other_files_are_reported():
    names = ["__MACOSX/._a.png", ".DS_Store", "x/.hidden.png", ".git/b.png", "Thumbs.db", "deep/desktop.ini"]
    members = [("a.png", png())] + [(name, b"x") for name in names]
    assert unpack_all(zipped(members)) == ([("a.png", png())], [], [])
    files, faults, left_out = unpack_all(zipped([*members, ("notes.txt", b"x"), ("b.csv", b"x"), ("run.sh", b"x")]))
    assert (files, faults) == ([("a.png", png())], [])
    assert left_out == ["'cells.zip' contains files that are not images and were skipped: 'notes.txt' and 2 more."]


def test_nested_archives_are_not_opened():
    unpacked = unpack_all(zipped([("a.png", png()), ("more.zip", zipped([("b.png", png(1))]))]))
    assert [name for name, _ in unpacked.files] == ["a.png"]
    assert unpacked.left_out == ["'cells.zip' contains other archives, 'more.zip': unpack them first."]


def test_an_archive_without_images_is_reported():
    for members in ([], [("notes.txt", b"x")], [("folder/", b"")]):
        faults = ["'cells.zip' contains no images: expected BMP, PNG, JPEG, TIFF or WebP files."]
        assert unpack_all(zipped(members))[:2] == ([], faults)


def test_names_are_sanitized():
    for untrusted, safe in {
        "all/fold 0/cell.png": "all/fold 0/cell.png",
        "../../etc/cron.d/cell.png": "etc/cron.d/cell.png",
        "/root/cell.png": "root/cell.png",
        r"C:\Windows\..\cell.png": "Windows/cell.png",
        r"\\server\share\cell.png": "server/share/cell.png",
        "./a/./b//cell.png": "a/b/cell.png",
        "a\nb\x1b[2J\u202egnp.png": "a?b?[2J?gnp.png",
        "zelle-ä-血.png": "zelle-ä-血.png",
        "../..": "unnamed",
        "": "unnamed",
    }.items():
        assert safe_name(untrusted) == safe
        assert safe_name(safe) == safe


def test_members_with_parent_paths_are_read_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unpacked = unpack_all(zipped([("../../../x.png", png()), (f"{tmp_path}/y.png", png(1)), ("<script>.png", png(2))]))
    names = ["x.png", safe_name(f"{tmp_path}/y.png"), "<script>.png"]
    assert unpacked.files == [(name, png(seed)) for seed, name in enumerate(names)]
    assert not list(tmp_path.iterdir())


def test_two_members_of_the_same_name_are_both_unpacked():
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([("a.png", png(1)), ("a.png", png(2))])
    assert [data for _, data in unpack_all(data).files] == [png(1), png(2)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flags": 1}, "is encrypted"),
        ({"mode": 0o120777 << 16}, "is a link or a device"),
        ({"method": 12}, "uses a rare compression method"),
        ({"size": 300 * MB}, "is over 200 MB unpacked"),
        ({"size": 5}, "is damaged"),
        ({"crc": 1}, "is damaged"),
    ],
)
def test_a_bad_member_is_reported_and_the_others_are_unpacked(fields, words):
    members = [("a.png", png(1)), ("bad.png", bytes(10_000)), ("b.png", png(2))]
    unpacked = unpack_all(patched(zipped(members), ["bad.png"], **fields))
    assert [name for name, _ in unpacked.files] == ["a.png", "b.png"]
    (fault,) = unpacked.faults
    assert fault.startswith("'bad.png' in 'cells.zip' ")
    assert words in fault


def test_files_that_are_not_archives_are_refused():
    for data in (b"", b"no archive", b"PK\x05\x06", png(), zipped([("a.png", png())])[:-30]):
        with pytest.raises(ImageError, match=r"'cells.zip' is not a ZIP archive, or is damaged or truncated"):
            unpack_all(data)


def test_damaged_archives_raise_only_image_errors():
    whole = zipped([(f"{number}.png", png(number)) for number in range(5)])
    random = np.random.default_rng(3)
    refused = faults = 0
    for _ in range(500):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 4):
            data[place] = random.integers(256)
        try:
            faults += len(unpack_all(bytes(data)).faults)
        except ImageError:
            refused += 1
    assert refused > 5
    assert faults > 100


def test_images_over_the_limit_are_skipped_and_reported():
    unpacked = unpack_all(zipped([(f"{number}.png", b"x") for number in range(12)]), most=5)
    assert [name for name, _ in unpacked.files] == [f"{number}.png" for number in range(5)]
    assert unpacked.left_out == ["'cells.zip' contains 12 images: the first 5 were used, upload the rest later."]


def test_too_many_members_are_refused_before_the_directory_is_read(monkeypatch):
    data = zipped([(f"{number}.png", b"") for number in range(MAX_MEMBERS + 1)])
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the directory was read"))
    with pytest.raises(ImageError, match=r"'cells.zip' contains over 20,000 files"):
        unpack_all(data)


def peak_memory(action):
    """Return the result of an action and the peak memory that Python allocated for it, in bytes."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_is_not_unpacked_beyond_the_limits_or_its_declared_size():
    bomb = zipped([(f"{number}.png", bytes(30 * MB)) for number in range(8)])
    assert len(bomb) < MB
    unpacked, peak = peak_memory(lambda: unpack_all(bomb, most_bytes=100 * MB))
    assert [len(data) for _, data in unpacked.files] == [30 * MB] * 3
    assert unpacked.left_out == ["'cells.zip' is too large unpacked: put 5 images into another ZIP."]
    assert peak < 140 * MB
    unpacked, peak = peak_memory(lambda: unpack_all(bomb, member_bytes=10 * MB))
    assert (len(unpacked.files), len(unpacked.faults)) == (0, 8)
    assert "is over 10 MB unpacked" in unpacked.faults[0]
    assert peak < 5 * MB
    lie = patched(zipped([("bomb.png", bytes(200 * MB))]), ["bomb.png"], size=1000)
    unpacked, peak = peak_memory(lambda: unpack_all(lie))
    assert (len(unpacked.files), len(unpacked.faults)) == (0, 1)
    assert "is damaged" in unpacked.faults[0]
    assert peak < 5 * MB


def test_overlapping_members_each_count_against_the_limit():
    """A bomb after Fifield, "A better zip bomb" (2019): many directory entries over one compressed kernel."""
    one = zipped([("k.png", bytes(30 * MB))])
    start = one.find(b"PK\x01\x02")
    entry = one[start : one.find(b"PK\x05\x06")]
    count = 1000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    unpacked, peak = peak_memory(lambda: unpack_all(one[:start] + entry * count + end))
    assert len(unpacked.files) <= 3
    assert peak < 140 * MB


def test_damaged_members_count_against_the_limit():
    """Otherwise a thousand members with wrong checksums would be inflated one after the other, for hours."""
    names = [f"{number}.png" for number in range(8)]
    unpacked = unpack_all(patched(zipped([(name, bytes(30 * MB)) for name in names]), names, crc=1))
    assert len(unpacked.faults) == 3
    assert "put 5 images" in unpacked.left_out[0]


def test_a_thousand_cells_are_unpacked_in_limited_memory_and_progress_is_reported():
    cells = [(f"{number}.png", png(number)) for number in range(1000)]
    data, calls = zipped(cells), []
    unpacked, peak = peak_memory(lambda: unpack_all(data, progress=lambda *args: calls.append(args)))
    assert unpacked.files == cells
    assert calls[0] == (0.0, "Unpacking 'cells.zip', 0 of 1,000")
    assert calls[-1] == (0.999, "Unpacking 'cells.zip', 999 of 1,000")
    assert peak < 20 * MB
