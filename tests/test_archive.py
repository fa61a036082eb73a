import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from leukodash.data.archive import MAX_MEMBERS, safe_name, unpack
from leukodash.data.images import read_image
from leukodash.errors import ImageError

MB = 10**6


def png(seed=0, side=16):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def patched(data, **fields):
    """A ZIP with fields of every member overwritten, in the members' own headers and in the directory."""
    places = {  # name: offset in the local header, offset in the directory, format
        "flags": (6, 8, "<H"),
        "method": (8, 10, "<H"),
        "crc": (14, 16, "<I"),
        "size": (22, 24, "<I"),
        "mode": (None, 38, "<I"),
    }
    result = bytearray(data)
    for field, value in fields.items():
        local, central, form = places[field]
        for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
            at = data.find(mark)
            while at >= 0 and offset is not None:
                struct.pack_into(form, result, at + offset, value)
                at = data.find(mark, at + 4)
    return bytes(result)


def take(data, most=1000, most_bytes=100 * MB, **options):
    return unpack(data, "cells.zip", most, most_bytes, **options)


def test_images_come_out_as_they_went_in_with_their_folders_in_order():
    cells = [(f"all/{number}.png", png(number)) for number in (2, 1, 3)]
    came = take(zipped([("all/", b""), *cells]))
    assert came == (cells, [], [])
    assert take(zipped(cells, zipfile.ZIP_STORED)).files == cells


def test_capital_endings_and_every_format_are_taken():
    names = ["a.PNG", "b.JPeG", "c.bmp", "d.TIF", "e.tiff", "f.webp", "g.jpg"]
    assert [name for name, _ in take(zipped([(name, b"x") for name in names])).files] == names


def test_what_systems_add_is_passed_over_in_silence():
    names = ["__MACOSX/._a.png", ".DS_Store", "x/.hidden.png", ".git/b.png", "Thumbs.db", "deep/desktop.ini"]
    assert take(zipped([("a.png", png())] + [(name, b"x") for name in names])) == ([("a.png", png())], [], [])


def test_what_is_no_image_is_left_out_and_said_so():
    came = take(zipped([("a.png", png()), ("notes.txt", b"x"), ("b.csv", b"x"), ("run.sh", b"x")]))
    assert [name for name, _ in came.files] == ["a.png"]
    assert came.left_out == ["'cells.zip' holds what is no image and is left out: 'notes.txt' and 2 more."]


def test_an_archive_in_an_archive_is_not_opened():
    came = take(zipped([("a.png", png()), ("more.zip", zipped([("b.png", png(1))]))]))
    assert [name for name, _ in came.files] == ["a.png"]
    assert came.left_out == ["'cells.zip' holds archives in it, 'more.zip': unpack them first."]
    disguised = take(zipped([("b.png", zipped([("c.png", png())]))])).files
    with pytest.raises(ImageError, match=r"'b.png' is a ZIP archive or an Office document: expected"):
        read_image(disguised[0][1], disguised[0][0])


def test_an_archive_without_images_says_so():
    for members in ([], [("notes.txt", b"x")], [("folder/", b"")]):
        came = take(zipped(members))
        assert came.files == []
        assert came.faults == ["'cells.zip' holds no images: expected BMP, PNG, JPEG, TIFF or WebP files in it."]


@pytest.mark.parametrize(
    ("untrusted", "safe"),
    [
        ("all/fold 0/cell.png", "all/fold 0/cell.png"),
        ("../../etc/cron.d/cell.png", "etc/cron.d/cell.png"),
        ("/root/cell.png", "root/cell.png"),
        (r"C:\Windows\..\cell.png", "Windows/cell.png"),
        (r"\\server\share\cell.png", "server/share/cell.png"),
        ("./a/./b//cell.png", "a/b/cell.png"),
        ("a\nb\x1b[2J\u202egnp.png", "a?b?[2J?gnp.png"),
        ("zelle-ä-血.png", "zelle-ä-血.png"),
        ("../..", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_no_name_leads_anywhere(untrusted, safe):
    assert safe_name(untrusted) == safe
    assert safe_name(safe) == safe


def test_members_named_out_of_the_folder_are_read_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    came = take(zipped([("../../../x.png", png()), (f"{tmp_path}/y.png", png(1)), ("<script>.png", png(2))]))
    assert [name for name, _ in came.files] == ["x.png", safe_name(f"{tmp_path}/y.png"), "<script>.png"]
    assert [data for _, data in came.files] == [png(), png(1), png(2)]
    assert not list(tmp_path.iterdir())


def test_two_members_of_one_name_both_come_out():
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([("a.png", png(1)), ("a.png", png(2))])
    assert [data for _, data in take(data).files] == [png(1), png(2)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flags": 1}, "is locked with a password"),
        ({"mode": 0o120777 << 16}, "is a link or a device"),
        ({"mode": 0o020666 << 16}, "is a link or a device"),
        ({"method": 12}, "is packed in a rare way"),
        ({"method": 9}, "is packed in a rare way"),
        ({"method": 99}, "is packed in a rare way"),
        ({"size": 300 * MB}, "has over 200 MB unpacked"),
        ({"size": 5}, "is damaged"),
        ({"crc": 1}, "is damaged"),
    ],
)
def test_a_member_that_cannot_be_had_gets_a_sentence_and_the_others_come(fields, words):
    bad = patched(zipped([("bad.png", bytes(10_000))]), **fields)
    (fault,) = take(bad).faults
    assert fault.startswith("'bad.png' in 'cells.zip' ")
    assert words in fault
    # The same member between good ones: its headers are those of `bad`.
    members = [("a.png", png(1)), ("bad.png", bytes(10_000)), ("b.png", png(2))]
    mixed = bytearray(zipped(members))
    local = mixed.find(b"bad.png") - 30
    central = mixed.rfind(b"bad.png") - 46
    mixed[local : local + 26] = bad[:26]
    start = bad.find(b"PK\x01\x02")
    mixed[central : central + 42] = bad[start : start + 42]
    came = take(bytes(mixed))
    assert [name for name, _ in came.files] == ["a.png", "b.png"]
    assert came.faults == [fault]


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06", png(), zipped([("a.png", png())])[:-30]])
def test_what_is_no_archive_is_refused(data):
    with pytest.raises(ImageError, match=r"'cells.zip' is no ZIP archive, or is damaged or cut short"):
        take(data)


def test_damaged_archives_never_raise_anything_but_an_image_error():
    whole = zipped([(f"{number}.png", png(number)) for number in range(5)])
    random = np.random.default_rng(3)
    refused = faults = 0
    for _ in range(500):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 4):
            data[place] = random.integers(256)
        try:
            faults += len(take(bytes(data)).faults)
        except ImageError:
            refused += 1
    assert refused > 5
    assert faults > 100


def test_more_images_than_are_taken_at_once_are_left_out():
    came = take(zipped([(f"{number}.png", b"x") for number in range(12)]), most=5)
    assert [name for name, _ in came.files] == [f"{number}.png" for number in range(5)]
    assert came.left_out == ["'cells.zip' holds 12 images, and 5 of them are taken: send the rest later."]


def test_thousands_of_members_are_refused_before_the_directory_is_read(monkeypatch):
    data = zipped([(f"{number}.png", b"") for number in range(MAX_MEMBERS + 1)])
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the directory was read"))
    with pytest.raises(ImageError, match=r"'cells.zip' holds over 20,000 files"):
        take(data)


def peak_of(action):
    """What an action returns, and the bytes that Python took for it at most."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_unpacked_no_further_than_the_limits():
    bomb = zipped([(f"{number}.png", bytes(30 * MB)) for number in range(8)])
    assert len(bomb) < MB
    came, peak = peak_of(lambda: take(bomb, most_bytes=100 * MB))
    assert [len(data) for _, data in came.files] == [30 * MB] * 3
    assert came.left_out == ["'cells.zip' is too large unpacked: 5 of its images need a ZIP of their own."]
    assert peak < 140 * MB
    came, peak = peak_of(lambda: take(bomb, member_bytes=10 * MB))
    assert (len(came.files), len(came.faults)) == (0, 8)
    assert "has over 10 MB unpacked" in came.faults[0]
    assert peak < 5 * MB


def test_a_bomb_that_lies_about_its_size_is_unpacked_no_further_than_it_says():
    lie = patched(zipped([("bomb.png", bytes(200 * MB))]), size=1000)
    came, peak = peak_of(lambda: take(lie))
    assert came.files == []
    assert "is damaged" in came.faults[0]
    assert peak < 5 * MB


def test_members_that_share_their_bytes_count_each_time():
    """A bomb after Fifield, "A better zip bomb" (2019): many directory entries over one compressed kernel."""
    one = zipped([("k.png", bytes(30 * MB))])
    start = one.find(b"PK\x01\x02")
    entry = one[start : one.find(b"PK\x05\x06")]
    count = 1000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    came, peak = peak_of(lambda: take(one[:start] + entry * count + end))
    assert len(came.files) <= 3
    assert peak < 140 * MB


def test_what_turns_out_damaged_counts_too():
    """Else a thousand members with wrong checksums would be inflated one after the other, for hours."""
    data = patched(zipped([(f"{number}.png", bytes(30 * MB)) for number in range(8)]), crc=1)
    came = take(data)
    assert len(came.faults) == 3
    assert "5 of its images" in came.left_out[0]


def test_progress_is_heard():
    heard = []
    take(zipped([(f"{number}.png", b"x") for number in range(4)]), progress=lambda *said: heard.append(said))
    assert heard[0] == (0.0, "Unpacking 'cells.zip', 0 of 4")
    assert heard[-1] == (0.75, "Unpacking 'cells.zip', 3 of 4")


def test_a_self_extracting_archive_is_read_too():
    assert take(b"MZ program" * 10 + zipped([("a.png", png())])).files == [("a.png", png())]


def test_a_thousand_cells_come_out_in_bounded_memory():
    cells = [(f"{number}.png", png(number)) for number in range(1000)]
    data = zipped(cells)
    came, peak = peak_of(lambda: take(data))
    assert came.files == cells
    assert peak < 20 * MB
