"""Run folders of earlier versions, brought to the current schema as they are read. Their files stay as they are."""

from typing import Any

SCHEMA = 2


def migrate_config(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` in the current schema.

    Schema 1 had no number, and called `train_from` ``cut``.
    """
    content = dict(content)
    if content.pop("schema", 1) < 2 and "cut" in content:
        content["train_from"] = content.pop("cut")
    return content
