"""Paths and limits that environment variables can set. They are read at each call, so that tests can change them."""

import os
from pathlib import Path

import platformdirs

MAX_IMAGE_PIXELS = 50_000_000  # 150 MB when decoded
MAX_UPLOAD_MB = 200
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
    """Largest size of the feature store (``LEUKODASH_CACHE_GB``, default 20)."""
    return int(float(os.environ.get("LEUKODASH_CACHE_GB") or 20) * 1e9)


def public() -> bool:
    """Whether the limits for a public demo apply (``LEUKODASH_PUBLIC=1``)."""
    return _is_on("LEUKODASH_PUBLIC")


def class_mode() -> bool:
    """Whether people sign in, and each acts on their own runs (``LEUKODASH_CLASS=1``)."""
    return _is_on("LEUKODASH_CLASS") and not public()


def shared() -> bool:
    """Whether people share this server who may not all do everything: a class with sign-in, or a public demo."""
    return public() or class_mode()


def teachers() -> frozenset[str]:
    """E-mail addresses of a class's teachers, in lower case (``LEUKODASH_TEACHERS``, separated by commas)."""
    return frozenset(os.environ.get("LEUKODASH_TEACHERS", "").lower().replace(",", " ").split())


def teacher_code() -> str:
    """The code with which teachers sign in where there are no accounts (``LEUKODASH_TEACHER_CODE``); "" for none."""
    return os.environ.get("LEUKODASH_TEACHER_CODE", "").strip()


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


def cpu_slots() -> int:
    """Runs that train at once on a machine without a GPU (``LEUKODASH_CPU_SLOTS``, default 1)."""
    return max(1, int(os.environ.get("LEUKODASH_CPU_SLOTS") or 1))
