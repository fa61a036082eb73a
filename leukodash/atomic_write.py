"""Files that are either whole or not there: written to a temporary name, then moved into place."""

import os
import threading
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes so that a reader sees the old file or the new one, never a part. Makes the folder if needed."""
    temporary = temporary_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path` that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
