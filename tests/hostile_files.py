"""Hostile images, archives and prediction files, each reproducible from a seed and a number."""

import io
import random
import struct
import zipfile

import cv2
import numpy as np
from bad_uploads import bad_uploads, chunk, deflated, odd_uploads, pillow, png, riff, tiff
from PIL import Image

MB = 2**20


def _saved(image, form, *more, **options):
    """Return an image, with further frames if given; as copies, since Pillow keeps options with an image."""
    several = {"save_all": True, "append_images": [frame.copy() for frame in more]} if more else {}
    return pillow(image.copy(), form, **several, **options)


def _pictures():
    """Valid images of every format and of most of their variants, which are then damaged."""
    noise = np.random.default_rng(7)
    color = Image.fromarray(noise.integers(0, 256, (60, 70, 3), dtype=np.uint8))
    smooth = color.resize((9, 7)).resize((210, 160), Image.Resampling.BICUBIC)
    gray, palette = smooth.convert("L"), smooth.quantize(32)
    deep = Image.fromarray(noise.integers(0, 65536, (60, 70), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 500
    profile = noise.integers(0, 256, 3000, dtype=np.uint8).tobytes()
    more = smooth.rotate(9), smooth.rotate(20)
    pictures = [
        *(_saved(image, "PNG") for image in (color, gray, palette, deep, smooth.convert("RGBA"))),
        _saved(palette, "PNG", transparency=3, exif=exif, icc_profile=profile),
        _saved(smooth, "PNG", *more),
        *(_saved(image, "BMP") for image in (color, gray, palette, gray.convert("1"), smooth.convert("RGBA"))),
        _saved(smooth, "JPEG", exif=exif, icc_profile=profile, comment=b"x" * 100),
        _saved(smooth, "JPEG", progressive=True, quality=95, subsampling="4:4:4"),
        *(_saved(image, "JPEG") for image in (gray, smooth.convert("CMYK"))),
        _saved(smooth, "MPO", *more),
        *(
            _saved(smooth, "TIFF", compression=packing)
            for packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "tiff_lzma")
        ),
        *(_saved(image, "TIFF", exif=exif) for image in (deep, palette, smooth.convert("CMYK"), smooth.convert("LAB"))),
        _saved(gray.convert("1"), "TIFF", compression="group4"),
        _saved(smooth, "TIFF", *more, compression="tiff_deflate"),
        _saved(smooth, "TIFF", big_tiff=True, tiffinfo={278: 4}),
        _saved(smooth, "WEBP", exif=exif, icc_profile=profile),
        _saved(smooth.convert("RGBA"), "WEBP", lossless=True),
        _saved(smooth, "WEBP", *more),
        tiled_tiff(64, 64),
        rle_bmp(50, 40, bytes([50, 7, 0, 0] * 40)),
    ]
    return [*pictures, *(data for _, data, _ in odd_uploads())]


def tiled_tiff(width, length, pixels=None, packing=8):
    """Return an RGB TIFF of 50 × 40 pixels in one tile of this size."""
    packed = deflated(width * length * 3) if pixels is None else pixels
    changes = {"t322": width, "t323": length, "t324": 8 + 2 + 12 * 12 + 4 + 6, "t325": len(packed), "t259": packing}
    return tiff(pixels=packed, t273=None, t278=None, t279=None, **changes)


def rle_bmp(width, height, runs):
    """Return a BMP of 256 gray levels in run-length encoding."""
    colors = b"".join(bytes((level, level, 255 - level, 0)) for level in range(256))
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + information + colors + runs


def smear_of_dots(step, radius, inverse):
    """Return a PNG that looks like a smear of thousands of violet dots, or of one violet cell with as many holes."""
    light, violet = (232, 230, 235), (150, 60, 110)
    image = np.full((1200, 1250, 3), light, np.uint8)
    if inverse:
        image[100:1100, 100:1100] = violet
    for y in range(120, 1080, step):
        for x in range(120, 1080, step):
            cv2.circle(image, (x, y), radius, light if inverse else violet, -1)
    return cv2.imencode(".png", image)[1].tobytes()


def heavy_images():
    """Return (name, bytes) of images of a few megabytes that would take gigabytes or minutes without limits."""
    jpeg = pillow(Image.new("RGB", (64, 64)), "JPEG")
    middle = jpeg.find(b"\xff\xdb")
    large = pillow(Image.new("L", (4900, 4900)), "JPEG", progressive=True)
    last = large.rfind(b"\xff\xda")
    zeros = deflated(13_008 * 13_008 * 3)
    frame = struct.pack(">IIIIIHHBB", 0, 13_000, 13_000, 0, 0, 1, 1, 0, 0)
    animated = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame)
    second = chunk(b"fcTL", b"\0\0\0\1" + frame[4:]) + chunk(b"fdAT", b"\0\0\0\2" + zeros)
    bomb = deflated(MB - 100)
    texts = b"".join(chunk(b"zTXt", b"key%d\0\0" % number + bomb) for number in range(90))
    strips = np.full(4_000_000, 8)
    pairs = np.tile(np.array([1, 7], np.uint8), 4_000_000).tobytes()
    return [
        ("two frames.png", png(13_000, 13_000, 8, 2, zeros, animated)[:-12] + second + chunk(b"IEND")),
        ("four million strips.tif", tiff(t278=1, t273=(3, strips), t279=(3, strips))),
        ("a tile of 169 million pixels.tif", tiled_tiff(13_008, 13_008, zeros)),
        ("fifty scans of 24 million pixels.jpg", large[:last] + large[last:-2] * 40 + large[-2:]),
        ("a million comments.jpg", jpeg[:middle] + b"\xff\xfe\0\2" * 2_000_000 + jpeg[middle:]),
        ("a million chunks.png", png(before=chunk(b"prVt") * 700_000)),
        ("all in one pixel runs.bmp", rle_bmp(2000, 2000, pairs)),
        ("long runs.bmp", rle_bmp(7000, 7000, bytes([255, 7] * 200_000))),
        ("junk between the marks.jpg", jpeg[:middle] + bytes(9 * MB) + jpeg[middle:]),
        ("a profile of 9 MB.jpg", jpeg[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 140 + jpeg[2:]),
        ("flat.webp", pillow(Image.new("RGB", (4900, 4900)), "WEBP", lossless=True, method=0, quality=0)),
        ("large.webp", pillow(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True, method=0, quality=0)),
        ("flat deep.png", pillow(Image.new("I;16", (7000, 7000)), "PNG", compress_level=1)),
        ("large canvas.webp", riff((b"VP8X", b"\2\0\0\0" + b"\xc7\x32\0" * 2), (b"ANIM", bytes(6)))),
        ("a smear of touching dots.png", smear_of_dots(10, 5, inverse=False)),
        ("a smear full of holes.png", smear_of_dots(16, 2, inverse=True)),
        ("ninety bombs.png", png(before=texts)),
        ("ninety bombs behind the pixels.png", png()[:-12] + texts + chunk(b"IEND")),
    ]


def damaged(source, data):
    """Return bytes with one to twelve faults: flipped bits, cuts, repeats, insertions and extreme numbers."""
    data = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4, 12))):
        if not data:
            break
        near = source.randrange(min(len(data), 200)) if source.random() < 0.6 else source.randrange(len(data))
        kind = source.randrange(8)
        if kind == 0:
            data[near] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[near] = source.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
        elif kind == 2:
            number = source.choice((0, 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
            data[near : near + 4] = struct.pack(source.choice("<>") + "I", number)
        elif kind == 3:
            del data[near:]
        elif kind == 4:
            del data[near : near + source.randrange(1, 40)]
        elif kind == 5:
            data[near:near] = source.randbytes(source.randrange(1, 40))
        elif kind == 6:
            part = data[near : near + source.randrange(1, 3000)]
            data[near:near] = part * source.choice((1, 2, 50))
        else:
            start = source.randrange(len(data))
            data[near:near] = data[start : start + source.randrange(1, 300)]
    return bytes(data)


def images(seed, count):
    """Yield (name, bytes) of hostile images: a few heavy ones, the rest damaged ones."""
    source, pictures, heavy = random.Random(f"images {seed}"), _pictures(), heavy_images()
    for number in range(count):
        if number % 4 == 0 and number // 4 < len(heavy):
            yield heavy[number // 4]
        elif number % 5 == 1:
            yield "inserted.png", _with_chunks(source, pictures[source.randrange(5)])
        else:
            yield f"damaged {number}", damaged(source, source.choice(pictures))


def _with_chunks(source, data):
    """Return a PNG with whole chunks inserted, whose checksums are right."""
    kinds = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"iTXt", b"zTXt", b"pHYs", b"IDAT")
    for _ in range(source.randrange(1, 6)):
        body = source.choice((b"", source.randbytes(26), b"x\0\0" + deflated(3 * MB), bytes(5000)))
        part = chunk(source.choice(kinds), body)
        at = source.choice((8, 33, len(data) - 12))
        data = data[:at] + part + data[at:]
    return data


def archives(seed, count):
    """Yield (name, bytes) of hostile ZIP archives."""
    source, bad = random.Random(f"archives {seed}"), [(name, data) for name, data, _ in bad_uploads()]
    good = pillow(Image.new("RGB", (40, 40), (90, 20, 90)), "PNG")
    makers = (_names, _nested, _bomb, _many, _overlapping, _encrypted, _zip64, _other_methods)
    for number in range(count):
        if number % 2:
            members = [(f"{place}.png", good) for place in range(5)] + source.sample(bad, 10)
            yield f"damaged {number}.zip", damaged(source, _zipped(members))
        else:
            maker = makers[number // 2 % len(makers)]
            data = maker(source, good)
            yield f"{maker.__name__}.zip", damaged(source, data) if source.random() < 0.3 else data


def _zipped(members, method=zipfile.ZIP_DEFLATED, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, **options) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name.replace("\ud800", "?"), (2020, 1, 1, 0, 0, 0)), data, method)
    return stream.getvalue()


def _names(source, good):
    names = (
        "../" * 40 + "x.png",
        "/etc/x.png",
        "C:\\x.png",
        "a" * 60_000 + ".png",
        "=1+1.png",
        "<b>.png",
        ".png",
        "\n.png",
    )
    return _zipped([(name, good) for name in source.sample(names, 5)])


def _nested(source, good):
    data = _zipped([("x.png", good)])
    for depth in range(source.randrange(2, 20)):
        data = _zipped([(f"{depth}.{source.choice(('zip', 'png'))}", data)])
    return data


def _bomb(source, good):
    return _zipped([(f"{number}.png", bytes(source.choice((60, 250)) * MB)) for number in range(2)])


def _many(source, good):
    return _zipped([(f"{number}.png", b"") for number in range(source.choice((2_000, 21_000)))], zipfile.ZIP_STORED)


def _overlapping(source, good):
    """Entries of the directory that all share one large member."""
    data = _zipped([("0.png", bytes(40 * MB))])
    at = data.find(b"PK\1\2")
    entry, end = data[at : data.find(b"PK\5\6")], data[data.find(b"PK\5\6") :]
    count = source.choice((20, 3000))
    return data[:at] + entry * count + end[:8] + struct.pack("<HHI", count, count, len(entry) * count) + end[16:]


def _encrypted(source, good):
    data = bytearray(_zipped([("a.png", good), ("b.png", good)]))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(mark) + offset] |= source.choice((1, 0x41))
    return bytes(data)


def _zip64(source, good):
    data = bytearray(_zipped([("a.png", good)]))
    at = data.find(b"PK\1\2")
    struct.pack_into("<II", data, at + 20, 2**32 - 1, source.choice((2**32 - 1, 2**31, 7)))
    return bytes(data)


def _other_methods(source, good):
    return _zipped([("a.png", good), ("b.png", bytes(9 * MB))], source.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))


def predictions(seed, count):
    """Yield (name, bytes) of hostile CSV files of predictions."""
    source = random.Random(f"predictions {seed}")
    heavy = _heavy_predictions()
    for number in range(count):
        if number % 5 == 0 and number // 5 < len(heavy):
            yield heavy[number // 5]
        else:
            yield f"{number}.csv", _predictions(source)


def _heavy_predictions():
    classes = [f"c{number}" for number in range(50)]
    head = f"file,label,{','.join(f'p_{label}' for label in classes)}\n"
    row = ",".join(["0.02"] * 50)
    return [
        ("30,000 rows of 50 classes.csv", (head + "".join(f"{n},c{n % 50},{row}\n" for n in range(30_000))).encode()),
        ("a million columns.csv", b"file,label,p_a,p_b" + b",x" * 10**6 + b"\na,a,0.5,0.5" + b",1" * 10**6),
        ("only commas.csv", b"," * 20 * MB),
        ("a row of three million.csv", b"file,label,p_a,p_b\na,a,0.5,0.5" + b",1" * 3 * 10**6),
        ("one long field.csv", b'file,label,p_a,p_b\n"' + b"a" * 20 * MB),
        ("only lines.csv", b"file,label,p_a,p_b\n" + b"\n" * 20 * MB),
        ("many rows.csv", b"file,label,p_a,p_b\n" + b"".join(b"%d,a,1,0\n" % n for n in range(300_000))),
    ]


def _predictions(source):
    words = (
        "NA", "nan", "null", "None", "", "=1+1", "-inf", "inf", "1e999", "1e-320", "-0.0", "0.5", "1", "0,5", '"', "\0",
        "é", "\u202e", "<b>", "x" * 3000, "\t", " a ", "9" * 400, "0x1p3", "True", "all", "hem", "a.png",
    )  # fmt: skip
    separator = source.choice((",", ",", ",", ",", ";", "\t", "|", " "))
    classes = source.sample(("all", "hem", "a", "b", "NA", "=x", "ALL", "é", "null"), source.randrange(1, 6))
    head = ["file", "label", *(f"p_{label}" for label in classes), *source.sample(("subject", "part", "file", "x"), 2)]
    if source.random() < 0.2:
        source.shuffle(head)
    if source.random() < 0.1:
        head = ["path", "y_true", "prob"]
    rows = range(source.choice((0, 1, 5, 60)))
    lines = [head, *([_value(source, name, number, classes, words) for name in head] for number in rows)]
    text = source.choice(("\n", "\n", "\r\n", "\r")).join(separator.join(line) for line in lines)
    data = text.encode(source.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    return damaged(source, data) if source.random() < 0.3 else data


def _value(source, name, number, classes, words):
    if source.random() < 0.04:
        return source.choice(words)
    if name == "file":
        return f"{number}.png"
    if name in ("label", "y_true"):
        return source.choice(classes)
    if name == "part":
        return source.choice(("test", "validation", "train"))
    return f"{1 / len(classes):.4f}" if name.startswith("p") else source.choice(words)
