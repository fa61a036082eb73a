"""Paths and limits that environment variables can set. They are read at each call, so that tests can change them."""

import math
import os
from pathlib import Path

import platformdirs

MAX_IMAGE_PIXELS = 50_000_000  # 150 MB when decoded
MAX_UPLOAD_MB, MAX_PUBLIC_UPLOAD_MB = 200, 10
SWITCHES = ("LEUKODASH_PUBLIC", "LEUKODASH_CLASS")
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
NUMBERS = ("LEUKODASH_CACHE_GB", "LEUKODASH_CPU_SLOTS")
NICE = 10  # niceness of trainers and exports, 0 to 19, so that pages stay responsive


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


def shipped(path: str) -> Path:
    """Return a file or folder that comes with LeukoDash: from the repository, or from its copy in the wheel."""
    package = Path(__file__).parent
    copies = package / "shipped"
    return (copies if copies.is_dir() else package.parent) / path


def data_root() -> Path:
    """Folder of data sets, or a single data set (``LEUKODASH_DATA``, default ``data``)."""
    return _folder("LEUKODASH_DATA", Path("data"))


def checkpoints() -> Path:
    """Folder of run folders (``LEUKODASH_CHECKPOINTS``, default ``checkpoints``)."""
    return _folder("LEUKODASH_CHECKPOINTS", Path("checkpoints"))


def published() -> Path:
    """Folder of the archives of published runs (``LEUKODASH_PUBLISHED``, default those that come with LeukoDash)."""
    return _folder("LEUKODASH_PUBLISHED", shipped("checkpoints/published"))


def asset(path: str) -> Path:
    """Return a file or folder of the real things that come with LeukoDash: cells, smears and weights."""
    return Path(__file__).parent / "assets" / path


def weights() -> Path | None:
    """Folder of pretrained weight files that is searched before downloading (``LEUKODASH_WEIGHTS``)."""
    value = os.environ.get("LEUKODASH_WEIGHTS")
    return Path(value).expanduser() if value else None


def cache() -> Path:
    """Folder of decoded images and features (``LEUKODASH_CACHE``, default the user's cache folder)."""
    return _folder("LEUKODASH_CACHE", Path(platformdirs.user_cache_dir("leukodash", appauthor=False)))


def cache_limit_bytes() -> int:
    """Largest size of what is made in the cache folder (``LEUKODASH_CACHE_GB``, default 20, in a public demo 2)."""
    return int(_number("LEUKODASH_CACHE_GB", 2 if public() else 20) * 1e9)


def model_limit_bytes() -> int:
    """Memory of the networks that the app keeps loaded: enough for four VGG16; a public host has less."""
    return 2**27 if public() else 2**29


def public() -> bool:
    """Whether the limits for a public demo apply (``LEUKODASH_PUBLIC=1``)."""
    return _is_on("LEUKODASH_PUBLIC")


def class_mode() -> bool:
    """Whether people sign in, and each acts on their own runs (``LEUKODASH_CLASS=1``)."""
    return _is_on("LEUKODASH_CLASS") and not public()


def shared() -> bool:
    """Whether people share this server who may not all do everything: a class with sign-in, or a public demo."""
    return public() or class_mode()


def without_paths(text: str) -> str:
    """Return a message without the places of this machine's folders, which visitors and students need not know."""
    folders = {checkpoints(): "the folder of runs", data_root(): "the folder of data sets", cache(): "the cache folder"}
    folders |= {Path(__file__).parents[1]: "LeukoDash's folder"}
    if own := weights():
        folders[own] = "the folder of weights"
    places = {str(form): words for path, words in folders.items() for form in (path, path.resolve())}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place]) if len(place) > 1 and place.startswith("/") else text
    return text


def teachers() -> frozenset[str]:
    """E-mail addresses of a class's teachers, in lower case (``LEUKODASH_TEACHERS``, separated by commas)."""
    return frozenset(os.environ.get("LEUKODASH_TEACHERS", "").lower().replace(",", " ").split())


def teacher_code() -> str:
    """The code with which teachers sign in where there are no accounts (``LEUKODASH_TEACHER_CODE``); "" for none."""
    return os.environ.get("LEUKODASH_TEACHER_CODE", "").strip()


def cpu_slots() -> int:
    """Runs that train at once on a machine without a GPU (``LEUKODASH_CPU_SLOTS``, default 1)."""
    return max(1, int(_number("LEUKODASH_CPU_SLOTS", 1)))


def problems() -> list[str]:
    """Return a sentence on each environment variable whose value is not understood, or contradicts another one."""
    sentences = []
    for variable in SWITCHES:
        value = os.environ.get(variable, "").strip()
        if value.lower() not in (*ON, *OFF):
            sentences.append(f"{variable} is '{value}', which counts as on: set it to 1, or to 0 for off.")
    for variable in NUMBERS:
        value = os.environ.get(variable, "").strip()
        if value and _read_number(value) is None:
            sentences.append(f"{variable} is '{value}', which is no number above zero: the default is used instead.")
    if public() and _is_on("LEUKODASH_CLASS"):
        sentences.append("LEUKODASH_PUBLIC and LEUKODASH_CLASS are both on, and only the first counts: unset one.")
    return sentences


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in OFF


def _number(variable: str, default: float) -> float:
    return _read_number(os.environ.get(variable, "")) or default


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
