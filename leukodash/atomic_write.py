"""Atomic file writes: to a temporary name, then renamed into place."""

import os
import threading
from pathlib import Path


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write bytes so that a reader sees either the old file or the new one. Creates the folder if needed."""
    temporary = temporary_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path` that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
