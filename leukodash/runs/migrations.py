"""Run folders of earlier versions, read in the current schema. The files themselves stay as they are.

Schema 1 had no number. It called the setting `train_from` ``cut``, and its ``model.json`` held single facts about what
was trained in place of the whole config and the environment.
"""

from typing import Any

from leukodash.config.run_config import RunConfig, checked
from leukodash.errors import RunError

SCHEMA = 2
NEWER = "This run was made by a newer LeukoDash"  # the beginning of the sentence about a newer schema


def stored_config(config: RunConfig) -> dict[str, Any]:
    """Return the content of a ``config.json``."""
    return {"schema": SCHEMA, **config.model_dump(mode="json")}


def read_config(content: dict[str, Any]) -> RunConfig:
    """Return the config that a ``config.json`` of any schema holds. Raises RunError for a newer or invalid one."""
    content = dict(content)
    schema = content.pop("schema", 1)
    if not isinstance(schema, int):
        raise RunError(f"The schema of a config is a whole number, not {schema!r:.40}.")
    if schema > SCHEMA:
        raise RunError(f"{NEWER} (schema {schema}; this version reads up to {SCHEMA}). Update LeukoDash to open it.")
    if schema < 2 and "cut" in content:
        content["train_from"] = content.pop("cut")
    return checked(content)


def trained_config(content: dict[str, Any], requested: RunConfig) -> RunConfig:
    """Return the config that was trained, from a ``model.json`` of any schema and the config that was asked for."""
    if content.get("config"):
        return read_config(content["config"])
    if content.get("random_start") and requested.weights == "imagenet":
        return requested.as_random_start()
    weights = {name: content[name] for name in ("weights_file", "weights_sha256") if content.get(name)}
    return requested.changed(**weights)
