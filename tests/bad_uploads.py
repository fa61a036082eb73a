"""Over a hundred reproducible files that are not usable images, and some odd ones that are."""

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
TOO_MANY = "over the limit of 50 million: crop or shrink it|far more pixels than the limit of 50 million"
TOO_SMALL = "but a cell needs 8 or more per side"
DEEP = "has 32 bits per channel: save it with 8 or 16."


def opencv(image, ending):
    return cv2.imencode(f".{ending}", image[:, :, ::-1] if image.ndim == 3 else image)[1].tobytes()


def pillow(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def chunk(kind, data=b"", length=None, crc=None):
    """Return a PNG chunk, with a wrong length or checksum if given."""
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def png(width=50, height=40, depth=8, color=2, pixels=None, before=b""):
    """Return a PNG with this header; pixels are compressed zeros unless given."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = deflated(7000) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", pixels) + chunk(b"IEND")


def deflated(count):
    """Return this number of zeros, compressed in pieces."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(min(2**20, count - done))) for done in range(0, count, 2**20)]
    return b"".join(pieces) + packer.flush()


def tiff(pixels=bytes(6000), following=0, start=8, **changes):
    """Return an uncompressed RGB TIFF of 50 × 40 pixels, with tags overwritten or, if None, removed.

    A change is a tag's value or (type, values), such as `t256=7` for the width.
    """
    tags = {256: 50, 257: 40, 258: (3, [8, 8, 8]), 259: 1, 262: 2, 273: 8, 277: 3, 278: 40, 279: 6000}
    tags |= {int(name[1:]): value for name, value in changes.items()}
    tags = {number: tags[number] for number in sorted(tags) if tags[number] is not None}
    entries, outside = [], b""
    after = 8 + 2 + 12 * len(tags) + 4
    for number, value in tags.items():
        kind, values = value if isinstance(value, tuple) else (4, [value])
        data = np.array(values, "<u2" if kind == 3 else "<u4").tobytes()
        if len(data) > 4:
            data, outside = struct.pack("<I", after + len(outside)), outside + data
        entries.append(struct.pack("<HHI", number, kind, len(values)) + data.ljust(4, b"\0"))
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following)
    return struct.pack("<2sHI", b"II", 42, start) + directory + outside + pixels


def bmp(width=50, height=40, bits=24, compression=0, header=40, offset=54, colors=0, pixels=bytes(6080)):
    information = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, colors, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, offset) + information + pixels


def jpeg(offset, form, *values):
    """Return a JPEG whose frame header is overwritten at an offset."""
    data = bytearray(opencv(NOISE, "jpg"))
    struct.pack_into(form, data, data.find(b"\xff\xc0") + offset, *values)
    return bytes(data)


def slow_jpeg(scans=2000):
    """Return a progressive JPEG that repeats a scan; each costs a pass over the image."""
    data = pillow(Image.fromarray(np.zeros((600, 800), np.uint8)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def riff(*parts):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
                              for kind, data in parts)  # fmt: skip
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width, height):
    """Return the header chunk of an extended WebP."""
    return b"VP8X", bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def frames(form, count=3, **options):
    images = [Image.fromarray(np.roll(NOISE, 5 * number, axis=1)) for number in range(count)]
    return pillow(images[0], form, save_all=True, append_images=images[1:], **options)


def _other_files():
    """Yield files of other types and what their sentence calls them."""
    yield "page.png", b"<!DOCTYPE html><script>alert(document.cookie)</script>", "an HTML, SVG or XML file"
    yield "marked.png", b"\xef\xbb\xbf\r\n <svg onload=alert(1)></svg>", "an HTML, SVG or XML file"
    yield "data.jpg", b'{"label": "all"}', "a JSON file"
    yield "paper.png", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF"
    yield "slides.jpg", b"PK\3\4\x14\0" + bytes(24), "a ZIP archive or an Office document"
    yield "packed.png", b"\x1f\x8b\x08\0\0\0\0\0", "a gzip archive"
    yield "rare.png", b"Rar!\x1a\x07\x01\0", "a RAR archive"
    yield "seven.png", b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"
    yield "film.png", b"\0\0\0\x18ftypmp42\0\0\0\0mp42", "a video"
    yield "telephone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC photograph"
    yield "new.png", b"\0\0\0\x18ftypavif\0\0\0\0mif1", "an AVIF"
    yield "layers.png", b"8BPS\0\1" + bytes(20), "a Photoshop document"
    yield "icon.png", b"\0\0\1\0\1\0\x10\x10" + bytes(30), "a Windows icon"
    yield "moving.png", frames("GIF"), "a GIF"
    yield "scan.jpg", bytes(128) + b"DICM" + bytes(100), "not an image"
    yield "sound.webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(20), "not an image"
    yield "noise.png", NOISE.tobytes(), "not an image"
    yield "one byte.png", b"\x89", "not an image"


def _too_large():
    for side in (7_072, 2**31 - 1, 4_000_000_000):
        yield f"{side} claimed.png", png(side, side)
    yield "30000 gray bits.png", png(30_000, 30_000, 1, 0, deflated(30_000 * 3_751))
    yield "9000 gray bits.png", png(9_000, 9_000, 1, 0, deflated(9_000 * 1_126))
    for side in (8_000, 65_500):
        yield f"{side} claimed.jpg", jpeg(5, ">HH", side, side)
    yield "30000 upside down.bmp", bmp(30_000, -30_000)
    yield "30000 runs.bmp", bmp(30_000, 30_000, 8, 1, colors=2, offset=62)
    for side in (30_000, 2**32 - 1):
        yield f"{side} claimed.tif", tiff(t256=side, t257=side, t278=side)
    for side in (16_383, 2**24):
        yield f"{side} claimed.webp", riff(canvas(side, side))


def _damaged():
    for ending in ENDINGS:
        whole = opencv(NOISE, ending)
        for kept in (0.01, 0.3, 0.95):
            yield f"cut at {kept:.0%}.{ending}", whole[: int(len(whole) * kept)]
    signature, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND")
    yield "no width.png", png(0, 40)
    yield "wrong checksum.png", png(before=chunk(b"sRGB", b"\0", crc=7))
    yield "bomb in a comment.png", png(before=chunk(b"zTXt", b"Comment\0\0" + deflated(3 * 10**7)))
    yield "bomb in a profile.png", png(before=chunk(b"iCCP", b"x\0\0" + deflated(3 * 10**7)), pixels=b"")
    yield "too few pixels.png", png(pixels=deflated(100))
    yield "noise for pixels.png", png(pixels=NOISE.tobytes())
    yield "unknown filter.png", png(pixels=zlib.compress(b"\x09" * 7000))
    yield "three bits.png", png(depth=3)
    yield "endless chunk.png", png()[:33] + chunk(b"tEXt", b"x", length=2**32 - 1)
    yield "no header.png", signature + chunk(b"IDAT", deflated(7000)) + end
    yield "short header.png", signature + chunk(b"IHDR", b"\0\0\0\x32")
    yield "wrong letters.png", png()[:33] + b"\0\0\0\1\1\2\3\4x" + bytes(4)
    yield "double.tif", tiff(t258=(3, [64]), t277=1, t262=1, t339=(3, [3]))
    yield "two million channels.tif", tiff(t277=2_000_000)
    yield "unknown packing.tif", tiff(t259=50_505)
    yield "no width.tif", tiff(t256=None)
    yield "no strips.tif", tiff(t273=None, t279=None)
    yield "strips beyond the end.tif", tiff(t273=2**31)
    yield "noise packed.tif", tiff(NOISE.tobytes(), t259=5)
    yield "huge tiles.tif", tiff(t322=2**20, t323=2**20, t324=8, t325=6000, t259=8, t273=None, t279=None)
    yield "directory at the start.tif", tiff(start=0)
    yield "directory beyond the end.tif", tiff(start=2**31)
    yield "big and broken.tif", b"II\x2b\0\x08\0\0\0" + b"\xff" * 8 + bytes(20)
    yield "no height.bmp", bmp(50, 0)
    yield "64 bits.bmp", bmp(bits=64)
    yield "unknown packing.bmp", bmp(compression=77)
    yield "unknown header.bmp", bmp(header=7)
    yield "endless header.bmp", bmp(header=2**31)
    yield "pixels beyond the end.bmp", bmp(offset=2**30)
    yield "endless palette.bmp", bmp(bits=8, colors=2**31, offset=62)
    yield "runs cut short.bmp", bmp(bits=8, compression=1, colors=2, offset=62, pixels=bytes(8) + b"\5")
    yield "no height.jpg", jpeg(5, ">H", 0)
    yield "twelve bits.jpg", jpeg(4, "B", 12)
    yield "nine components.jpg", jpeg(9, "B", 9)
    yield "lossless mark.jpg", jpeg(1, "B", 0xC3)
    yield "no frame.jpg", jpeg(1, "B", 0xFE)
    yield "only marks.jpg", b"\xff\xd8\xff" + b"\xff" * 3000
    yield "no picture.webp", riff(canvas(50, 40))
    yield "noise.webp", riff((b"VP8 ", NOISE.tobytes()))
    yield "no pixels for its large canvas.webp", riff(canvas(7_000, 7_000), (b"VP8L", b"\x2f" + bytes(10)))
    for name in (  # with a special meaning to browsers, shells, spreadsheets, file systems or terminals
        "<script>alert(1)</script>.png", '"><img src=x onerror=alert(1)>.png', "![x](http://evil).png",
        "[a](javascript:alert(1)).jpg", "$\\href{javascript:alert(1)}{x}$.png", ":red[x] :material/home:.png",
        "../../../../etc/passwd.png", "C:\\Windows\\System32\\x.png", "\\\\server\\share\\x.png",
        "a\nb\r\n\tc.png", "\x1b[2J\x1b[31mred.png", "\u202egnp.exe.png", "null\0byte.png", "b" * 5000 + ".png",
        "=cmd|' /C calc'!A0.png", "'; DROP TABLE cells; --.png", "$(reboot) `reboot`.png", "%s%n%x{0}${jndi:x}.png",
        "CON.png", ".png", "🧬 血 ä ﷽.png", "-rf *.png", "\ud800.png",
    ):  # fmt: skip
        yield name, opencv(NOISE, "png")[:100]


def bad_uploads():
    """Return (name, bytes, pattern of the message) of every bad upload."""
    sizes = zip(ENDINGS, ((1, 1), (1, 400), (7, 7), (300, 2), (8, 7)), strict=True)
    small = [(f"{w}x{h}.{ending}", opencv(np.ones((h, w, 3), np.uint8), ending)) for ending, (h, w) in sizes]
    deep = [(f"{mode}.tif", pillow(Image.new(mode, (50, 40), 2**20), "TIFF")) for mode in ("F", "I")]
    groups = ((small, TOO_SMALL), (_too_large(), TOO_MANY), (deep, DEEP), (_damaged(), DAMAGED))
    return [
        ("empty.png", b"", "is empty: expected"),
        ("slow.jpg", slow_jpeg(), "is a JPEG with over 100 scans, which is slow to decode"),
        *((name, data, f"is {words}: expected BMP, PNG, JPEG, TIFF or WebP.") for name, data, words in _other_files()),
        *((name, data, words) for uploads, words in groups for name, data in uploads),
    ]


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
        ("impossible rotation.jpg", pillow(looped, "JPEG", exif=rotated), False),
        ("broken exif.jpg", pillow(looped, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9)), False),
        ("more pixels than claimed.png", png(pixels=deflated(3 * 10**7)), False),
        ("a hundred thousand depths.tif", tiff(t258=(3, [8] * 100_000)), False),
        ("lossy called lossless.webp", opencv(NOISE, "webp").replace(b"VP8 ", b"VP8L", 1), False),
        ("junk behind the end.png", opencv(NOISE, "png") + b"<script>" * 1000, False),
        ("page in a comment.jpg", pillow(looped, "JPEG", comment=b"<script>alert(1)</script>"), False),
        ("directory in a circle.tif", tiff(following=8), False),
    ]
