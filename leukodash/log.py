"""The log for whoever hosts the app: who did what, a line an action. No picture, file name of an upload or secret.

    2026-11-28 14:32:05 start role=visitor by=3f2a91c0 run=20261128-143205-mobilenet-8e1d

Lines go to standard error once the app has called `to_standard_error`; commands write none.
"""

import json
import logging
import re
import sys
from contextvars import ContextVar
from typing import Protocol

LONGEST = 200  # characters of a value
SHOWN = 8  # characters of the id of a person

_LOG = logging.getLogger("leukodash")
_PLAIN = re.compile(r"[\w.:+-]+", re.ASCII)


class Someone(Protocol):
    """Who acts; see `runs.access.Actor`."""

    @property
    def id(self) -> str:  # noqa: D102
        ...

    @property
    def role(self) -> str:  # noqa: D102
        ...


_present: ContextVar[Someone | None] = ContextVar("present", default=None)


def acting(person: Someone) -> None:
    """Note who sends the request that this thread answers."""
    _present.set(person)


def record(action: str, person: Someone | None = None, /, **facts: object) -> None:
    """Write a line: the action, who did it (by default whoever is `acting`), and facts such as ``run=run.id``."""
    person = person or _present.get()
    who = {"role": person.role, "by": person.id[:SHOWN]} if person else {}
    values = {name: _value(value) for name, value in {**who, **facts}.items() if value not in ("", None)}
    _LOG.info(" ".join([_value(action), *(f"{name}={value}" for name, value in values.items())]))


def to_standard_error() -> None:
    """Write the lines to standard error, from now on."""
    if not _LOG.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)


def _value(value: object) -> str:
    """Return a value as one word, or in quotes with control characters escaped, so that it cannot forge a line."""
    text = str(value)[:LONGEST]
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
