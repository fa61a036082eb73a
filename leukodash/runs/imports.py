"""Bring your own: another tool's predictions as a run that can be compared."""

import json
from typing import Any

from leukodash.runs.folder import Run

IMPORT_FILE = "imported.json"


def is_import(run: Run) -> bool:
    """Whether a run folder holds imported predictions, and so has no config and no weights."""
    return (run.path / IMPORT_FILE).is_file()


def about_import(run: Run) -> dict[str, Any]:
    """What is known of an imported run: backbone (key or None), source (file name), rows."""
    return json.loads((run.path / IMPORT_FILE).read_bytes())
