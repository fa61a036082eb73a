"""Over two hundred reproducible files that are not usable images, and some odd ones that are."""

import io
import struct
import zipfile
import zlib

import cv2
import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(6)
NOISE = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
ENDINGS = ("png", "jpg", "bmp", "tif", "webp")

DAMAGED = "is damaged, truncated or of a rare type: save it again"
NO_IMAGE = "is not an image: expected BMP, PNG, JPEG, TIFF or WebP."
REFUSED = "expected|save|crop or shrink"  # any sentence that says what to do
TOO_MANY = "over the limit of 50 million: crop or shrink it|far more pixels than the limit of 50 million"
TOO_SMALL = "but a cell needs 8 or more per side"
DEEP = "has 32 bits per channel: save it with 8 or 16."


def opencv(image, ending):
    return cv2.imencode(f".{ending}", image[:, :, ::-1] if image.ndim == 3 else image)[1].tobytes()


def pillow(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind, data=b"", length=None, crc=None):
    """Return a PNG chunk, with a wrong length or checksum if given."""
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def png(width=50, height=40, depth=8, color=2, pixels=None, before=b"", interlace=0, end=True):
    """Return a PNG with this header; pixels are compressed zeros unless given."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    pixels = deflated(7000) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", pixels) + (chunk(b"IEND") if end else b"")


def deflated(count):
    """Return this number of zeros, compressed in pieces."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(min(2**20, count - done))) for done in range(0, count, 2**20)]
    return b"".join(pieces) + packer.flush()


def tiff(tags, pixels=b"", following=0, start=8, version=42):
    """Return a little-endian TIFF with one directory; tags: number → value or (type, values)."""
    kinds = {3: "H", 4: "I", 5: "II", 11: "f", 12: "d", 16: "Q"}
    entries, outside = [], b""
    after = 8 + 2 + 12 * len(tags) + 4
    for number in sorted(tags):
        kind, values = tags[number] if isinstance(tags[number], tuple) else (4, [tags[number]])
        data = b"".join(struct.pack(f"<{kinds[kind][0]}", value) for value in values)
        if len(data) > 4:
            data, outside = struct.pack("<I", after + len(outside)), outside + data
        entries.append(struct.pack("<HHI", number, kind, len(values)) + data.ljust(4, b"\0"))
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following)
    return struct.pack("<2sHI", b"II", version, start) + directory + outside + pixels


def plain_tiff(pixels=bytes(6000), **changes):
    """Return an uncompressed RGB TIFF of 50 × 40 pixels, with tags overwritten or, if None, removed."""
    tags = {256: 50, 257: 40, 258: (3, [8, 8, 8]), 259: 1, 262: 2, 273: 8, 277: 3, 278: 40, 279: 6000}
    tags |= {int(name[1:]): value for name, value in changes.items()}
    return tiff({number: value for number, value in tags.items() if value is not None}, pixels)


def bmp(width=50, height=40, bits=24, compression=0, header=40, offset=54, colors=0, pixels=bytes(6080)):
    information = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, colors, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, offset) + information + pixels


def jpeg(**changes):
    """Return a JPEG with fields of its frame header overwritten: height, width, precision, components, marker."""
    data = bytearray(opencv(NOISE, "jpg"))
    at = data.find(b"\xff\xc0")
    for field, (offset, form) in {"precision": (4, "B"), "height": (5, ">H"), "width": (7, ">H"),
                                  "components": (9, "B"), "marker": (1, "B")}.items():  # fmt: skip
        if field in changes:
            struct.pack_into(form, data, at + offset, changes[field])
    return bytes(data)


def slow_jpeg(scans=2000):
    """Return a progressive JPEG that repeats a scan; each costs a pass over the image."""
    data = pillow(Image.fromarray(np.zeros((600, 800), np.uint8)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def riff(*parts, size=None):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
                              for kind, data in parts)  # fmt: skip
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def canvas(width, height, flags=0):
    """Return the header chunk of an extended WebP."""
    return b"VP8X", bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def frames(form, count=3, **options):
    images = [Image.fromarray(np.roll(NOISE, 5 * number, axis=1)) for number in range(count)]
    return pillow(images[0], form, save_all=True, append_images=images[1:], **options)


def _truncated():
    for ending in ENDINGS:
        whole = opencv(NOISE, ending)
        for kept in (0.01, 0.3, 0.95):
            yield f"cut at {kept:.0%}.{ending}", whole[: int(len(whole) * kept)], REFUSED
        yield f"empty.{ending}", b"", "is empty: expected"
        yield f"one byte.{ending}", whole[:1], NO_IMAGE


def _other_files():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr(zipfile.ZipInfo("cell.png"), opencv(NOISE, "png"))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    kinds = {
        "page": (b"<!DOCTYPE html><script>alert(document.cookie)</script>", "an HTML, SVG or XML file"),
        "drawing": (svg, "an HTML, SVG or XML file"),
        "entities": (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', "an HTML, SVG or XML file"),
        "marked": (b"\xef\xbb\xbf\r\n <html></html>", "an HTML, SVG or XML file"),
        "data": (b'{"label": "all"}', "a JSON file"),
        "table": (b"file,label\na.png,all\n", "not an image"),
        "program": (b"#!/bin/sh\nrm -rf /\n", "not an image"),
        "paper": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF"),
        "slides": (archive.getvalue(), "a ZIP archive or an Office document"),
        "packed": (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip archive"),
        "rare": (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        "seven": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        "film": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42", "a video"),
        "telephone": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC photograph"),
        "new": (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "an AVIF"),
        "layers": (b"8BPS\0\1" + bytes(20), "a Photoshop document"),
        "icon": (b"\0\0\1\0\1\0\x10\x10" + bytes(30), "a Windows icon"),
        "still": (pillow(Image.fromarray(NOISE), "GIF"), "a GIF"),
        "moving": (frames("GIF"), "a GIF"),
        "scan": (bytes(128) + b"DICM" + bytes(100), "not an image"),
        "machine code": (b"MZ\x90\0" + bytes(100), "not an image"),
        "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(20), "not an image"),
        "map": (b"P6\n50 40\n255\n" + NOISE.tobytes(), "not an image"),
        "zeros": (bytes(5000), "not an image"),
        "noise": (NOISE.tobytes(), "not an image"),
    }
    for ending in ("png", "jpg"):
        for name, (data, words) in kinds.items():
            yield f"{name}.{ending}", data, f"is {words}: expected BMP, PNG"


def _sizes():
    for height, width in ((1, 1), (1, 400), (7, 7), (300, 2)):
        for ending in ENDINGS:
            yield f"{width}x{height}.{ending}", opencv(np.ones((height, width, 3), np.uint8), ending), TOO_SMALL
    for side in (7_072, 9_000, 13_000, 30_000, 2**31 - 1):
        yield f"{side} claimed.png", png(side, side), TOO_MANY
    yield "30000 gray bits.png", png(30_000, 30_000, 1, 0, deflated(30_000 * 3_751)), TOO_MANY
    yield "9000 gray bits.png", png(9_000, 9_000, 1, 0, deflated(9_000 * 1_126)), TOO_MANY
    yield "endless.png", png(4_000_000_000, 4_000_000_000), REFUSED
    yield "wide.png", png(2**31 - 1, 1), REFUSED
    yield "65500 claimed.jpg", jpeg(width=65_500, height=65_500), TOO_MANY
    yield "8000 claimed.jpg", jpeg(width=8_000, height=8_000), TOO_MANY
    yield "30000 claimed.bmp", bmp(30_000, 30_000), TOO_MANY
    yield "30000 upside down.bmp", bmp(30_000, -30_000), TOO_MANY
    yield "30000 runs.bmp", bmp(30_000, 30_000, 8, 1, colors=2, offset=62), TOO_MANY
    yield "30000 claimed.tif", plain_tiff(t256=30_000, t257=30_000, t278=30_000), TOO_MANY
    yield "endless.tif", plain_tiff(t256=2**32 - 1, t257=2**32 - 1), REFUSED
    yield "16383 claimed.webp", riff(canvas(16_383, 16_383)), REFUSED
    yield "16777216 claimed.webp", riff(canvas(2**24, 2**24)), REFUSED
    for ending, made in (("png", png), ("bmp", bmp)):
        yield f"no width.{ending}", made(0, 40), REFUSED
        yield f"no height.{ending}", made(50, 0), REFUSED


def _odd_pngs():
    yield "wrong checksum.png", png(before=chunk(b"sRGB", b"\0", crc=7)), REFUSED
    yield "bomb in a comment.png", png(before=chunk(b"zTXt", b"Comment\0\0" + deflated(3 * 10**7))), DAMAGED
    yield "bomb in a profile.png", png(before=chunk(b"iCCP", b"x\0\0" + deflated(3 * 10**7)), pixels=b""), DAMAGED
    yield "too few pixels.png", png(pixels=deflated(100)), DAMAGED
    yield "no pixels.png", png(pixels=b""), DAMAGED
    yield "noise for pixels.png", png(pixels=NOISE.tobytes()), DAMAGED
    yield "unknown filter.png", png(pixels=zlib.compress(b"\x09" * 7000)), DAMAGED
    yield "three bits.png", png(depth=3), REFUSED
    yield "color type five.png", png(color=5), REFUSED
    yield "endless chunk.png", png()[:33] + chunk(b"tEXt", b"x", length=2**32 - 1), REFUSED
    yield "no header.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", deflated(7000)) + chunk(b"IEND"), REFUSED
    yield "only the end.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IEND"), REFUSED
    yield "short header.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\x32"), REFUSED
    yield "wrong letters.png", png()[:33] + b"\0\0\0\1\1\2\3\4x" + bytes(4), REFUSED


def _odd_tiffs():
    yield "float.tif", pillow(Image.new("F", (50, 40), 0.5), "TIFF"), DEEP
    yield "integers.tif", pillow(Image.new("I", (50, 40), 2**20), "TIFF"), DEEP
    yield "double.tif", plain_tiff(t258=(3, [64]), t277=1, t262=1, t339=(3, [3])), REFUSED
    yield "half.tif", plain_tiff(t258=(3, [16]), t277=1, t262=1, t339=(3, [3])), REFUSED
    yield "complex.tif", plain_tiff(t258=(3, [64]), t277=1, t262=1, t339=(3, [6])), REFUSED
    yield "three bits.tif", plain_tiff(t258=(3, [3]), t277=1, t262=1), REFUSED
    yield "24 bits.tif", plain_tiff(t258=(3, [24]), t277=1, t262=1), REFUSED
    yield "16 bits cut short.tif", opencv(NOISE.astype(np.uint16) * 257, "tif")[:5000], REFUSED
    yield "seven channels.tif", plain_tiff(t258=(3, [8] * 7), t277=7), REFUSED
    yield "two million channels.tif", plain_tiff(t277=2_000_000), REFUSED
    yield "unknown packing.tif", plain_tiff(t259=50_505), REFUSED
    yield "unknown colors.tif", plain_tiff(t262=9_999), REFUSED
    yield "no width.tif", plain_tiff(t256=None), REFUSED
    yield "zero width.tif", plain_tiff(t256=0), REFUSED
    yield "no strips.tif", plain_tiff(t273=None, t279=None), REFUSED
    yield "strips beyond the end.tif", plain_tiff(t273=2**31), REFUSED
    yield "noise packed.tif", plain_tiff(NOISE.tobytes(), t259=5), REFUSED
    yield "noise deflated.tif", plain_tiff(NOISE.tobytes(), t259=8), REFUSED
    yield "huge tiles.tif", plain_tiff(t322=2**20, t323=2**20, t324=8, t325=6000, t259=8, t273=None, t279=None), REFUSED
    yield "directory at the start.tif", tiff({}, start=0), REFUSED
    yield "directory beyond the end.tif", tiff({256: 50}, start=2**31), REFUSED
    yield "empty directory.tif", tiff({}), REFUSED
    yield "big and broken.tif", b"II\x2b\0\x08\0\0\0" + b"\xff" * 8 + bytes(20), REFUSED


def _odd_others():
    yield "no bits.bmp", bmp(bits=0), REFUSED
    yield "64 bits.bmp", bmp(bits=64), REFUSED
    yield "unknown packing.bmp", bmp(compression=77), REFUSED
    yield "unknown header.bmp", bmp(header=7), REFUSED
    yield "endless header.bmp", bmp(header=2**31), REFUSED
    yield "pixels beyond the end.bmp", bmp(offset=2**30), REFUSED
    yield "endless palette.bmp", bmp(bits=8, colors=2**31, offset=62), REFUSED
    yield "runs cut short.bmp", bmp(bits=8, compression=1, colors=2, offset=62, pixels=bytes(8) + b"\5"), REFUSED
    yield "slow.jpg", slow_jpeg(), "is a JPEG with over 100 scans, which is slow to decode"
    yield "no height.jpg", jpeg(height=0), REFUSED
    yield "twelve bits.jpg", jpeg(precision=12), REFUSED
    yield "nine components.jpg", jpeg(components=9), REFUSED
    yield "lossless mark.jpg", jpeg(marker=0xC3), REFUSED
    yield "only the start.jpg", b"\xff\xd8\xff\xe0", REFUSED
    yield "only marks.jpg", b"\xff\xd8\xff" + b"\xff" * 3000, REFUSED
    yield "no frame.jpg", opencv(NOISE, "jpg").replace(b"\xff\xc0", b"\xff\xfe", 1), REFUSED
    yield "no picture.webp", riff(canvas(50, 40)), REFUSED
    yield "no frames.webp", riff(canvas(50, 40, 2), (b"ANIM", bytes(6))), REFUSED
    yield "noise.webp", riff((b"VP8 ", NOISE.tobytes())), REFUSED
    yield "lossless noise.webp", riff((b"VP8L", b"\x2f" + NOISE.tobytes())), REFUSED
    yield "endless.webp", riff((b"VP8 ", b""), size=2**32 - 1), REFUSED


def _names():
    """Yield names with a special meaning to browsers, shells, spreadsheets, file systems or terminals."""
    page, half = b"<html>", opencv(NOISE, "png")[:100]
    for number, name in enumerate((
        "<script>alert(1)</script>.png", '"><img src=x onerror=alert(1)>.png', "![x](http://evil).png",
        "[a](javascript:alert(1)).jpg", "$\\href{javascript:alert(1)}{x}$.png", ":red[x] :material/home:.png",
        "../../../../etc/passwd.png", "/etc/shadow.png", "C:\\Windows\\System32\\x.png", "\\\\server\\share\\x.png",
        "a\nb\r\n\tc.png", "\x1b[2J\x1b[31mred.png", "\u202egnp.exe.png", "null\0byte.png", "b" * 5000 + ".png",
        "=cmd|' /C calc'!A0.png", "'; DROP TABLE cells; --.png", "$(reboot) `reboot`.png", "%s%n%x{0}${jndi:x}.png",
        "CON.png", ".png", "🧬 血 ä ﷽.png", "-rf *.png", "a.png.exe.png", "\ud800.png",
    )):  # fmt: skip
        yield name, (page, half)[number % 2], REFUSED


def bad_uploads():
    """Return (name, bytes, pattern of the message) of every bad upload."""
    parts = (_truncated, _other_files, _sizes, _odd_pngs, _odd_tiffs, _odd_others, _names)
    return [upload for part in parts for upload in part()]


def odd_uploads():
    """Return (name, bytes, whether it has several frames) of odd files that can be read."""
    rotated, looped = Image.Exif(), Image.fromarray(NOISE)
    rotated[0x0112] = 99
    return [
        ("animated.png", frames("PNG"), True),
        ("animated.webp", frames("WEBP"), True),
        ("pages.tif", frames("TIFF"), True),
        ("a thousand pages.tif", frames("TIFF", 1000, compression="tiff_deflate"), True),
        ("png called.jpg", opencv(NOISE, "png"), False),
        ("webp called.bmp", opencv(NOISE, "webp"), False),
        ("impossible rotation.jpg", pillow(looped, "JPEG", exif=rotated), False),
        ("broken exif.jpg", pillow(looped, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9)), False),
        ("more pixels than claimed.png", png(pixels=deflated(3 * 10**7)), False),
        ("a hundred thousand depths.tif", plain_tiff(t258=(3, [8] * 100_000)), False),
        ("lossy called lossless.webp", opencv(NOISE, "webp").replace(b"VP8 ", b"VP8L", 1), False),
        ("junk behind the end.png", opencv(NOISE, "png") + b"<script>" * 1000, False),
        ("page in a comment.jpg", pillow(looped, "JPEG", comment=b"<script>alert(1)</script>"), False),
        ("sixteen bits.png", opencv(NOISE.astype(np.uint16) * 257, "png"), False),
        ("sixteen bits and alpha.png", opencv(np.full((40, 50, 4), 65535, np.uint16), "png"), False),
        ("directory in a circle.tif", tiff({256: 50, 257: 40, 258: (3, [8]), 259: 1, 262: 1, 273: 8, 277: 1, 278: 40,
                                            279: 2000}, bytes(2200), following=8), False),
    ]  # fmt: skip
