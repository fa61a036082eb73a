"""The names of a class without accounts: who has taken which, proved by a key that stays in the browser.

The register is one file beside the runs. It holds salted hashes of the keys, so that whoever reads it cannot sign in.
"""

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

from filelock import FileLock

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.errors import NotAllowedError, RunError
from leukodash.runs.access import Actor
from leukodash.runs.run_folder import MAX_CHARACTERS, writing_runs

REGISTER = ".people.json"
MOST_NAMES = 1000
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that are read as another one
MAX_TRIES, TRIES_SECONDS = 5, 600.0  # wrong teacher's codes from one address, and for how long they count

_wrong: dict[str, list[float]] = {}  # by address: when a wrong code was tried
_trying = threading.Lock()


def new_key() -> str:
    """Return a random key of 99 bits, such as ``"k7fd-9q2m-x4tz-p3wa-h8ce"``."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(5))


def is_key(text: str) -> bool:
    """Return whether a text looks like a key."""
    return bool(re.fullmatch(rf"[{LETTERS}]{{4}}(-[{LETTERS}]{{4}}){{4}}", text))


def take_name(name: str, key: str, *, teacher: bool = False) -> Actor:
    """Sign in with a name, which is taken now or was taken with this key; returns who it is.

    Args:
        name: as others will see it. Upper and lower case are the same.
        key: from `new_key`.
        teacher: whether the teacher's code was given; the name then is a teacher's until the code changes.

    Raises:
        NotAllowedError: the name was taken with another key, or the key belongs to another name.
        RunError: the name or the key cannot be used, or the register cannot be read or written.
    """
    shown = " ".join(unicodedata.normalize("NFKC", name).split())
    if not shown or not shown.isprintable() or len(shown) > MAX_CHARACTERS["owner"]:
        raise RunError(f"A name has 1 to {MAX_CHARACTERS['owner']} letters. Enter another one.")
    if not is_key(key):
        raise RunError("A key has five groups of four letters and digits. Copy it as it was shown, or leave it out.")
    with _register() as people:
        entry, owner = people.get(shown.casefold()), _owner(people, key)
        if owner is not None and owner is not entry:
            raise NotAllowedError("This key belongs to another name. Enter that name, or leave the key out.")
        if entry is None:
            if len(people) >= MOST_NAMES:
                raise NotAllowedError(f"The class has {MOST_NAMES:,} names, which is the limit. Ask the teacher.")
            entry = people[shown.casefold()] = {"id": secrets.token_hex(8), "name": shown}
        elif entry.get("hash") and not _matches(entry, "hash", key):
            raise NotAllowedError(
                f"The name {entry['name']} is taken. If it is yours, enter your key, or ask the teacher to free it. "
                "If not, choose another name."
            )
        entry.setdefault("salt", secrets.token_hex(16))
        entry["hash"] = _hash(entry["salt"], key)
        if teacher:
            entry["code"] = _hash(entry["salt"], settings.teacher_code())
        return _actor(entry)


def who_has(key: str) -> Actor | None:
    """Return who signed in with this key; None if nobody did, or if the register cannot be read."""
    try:
        entry = _owner(_read(), key)
    except RunError:
        return None
    return _actor(entry) if entry else None


def names() -> list[str]:
    """Return the names that are taken, in alphabetical order. Raises RunError if the register cannot be read."""
    return sorted((entry["name"] for entry in _read().values() if entry.get("hash")), key=str.casefold)


def free_name(name: str) -> None:
    """Let the next person who enters this name have it, with its runs: its key was lost. Raises RunError."""
    with _register() as people:
        for part in ("hash", "code"):
            people.get(name.casefold(), {}).pop(part, None)


def is_teachers_code(code: str, address: str) -> bool:
    """Return whether this is the teacher's code. Raises NotAllowedError after too many wrong ones from an address."""
    with _trying:
        now = time.monotonic()
        for other in list(_wrong):
            _wrong[other] = [at for at in _wrong[other] if now - at < TRIES_SECONDS]
            if not _wrong[other]:
                del _wrong[other]
        if len(_wrong.get(address, [])) >= MAX_TRIES:
            raise NotAllowedError(f"The code was wrong {MAX_TRIES} times. Try again in {TRIES_SECONDS / 60:.0f} min.")
        right = settings.teacher_code()
        if right and hmac.compare_digest(code.strip().encode(), right.encode()):
            return True
        _wrong.setdefault(address, []).append(now)
        return False


def _actor(entry: dict[str, str]) -> Actor:
    is_teacher = bool(settings.teacher_code()) and _matches(entry, "code", settings.teacher_code())
    return Actor(entry["id"], entry["name"], "teacher" if is_teacher else "student")


def _owner(people: dict[str, dict[str, str]], key: str) -> dict[str, str] | None:
    return next((entry for entry in people.values() if _matches(entry, "hash", key)), None)


def _matches(entry: dict[str, str], part: str, secret: str) -> bool:
    return part in entry and hmac.compare_digest(entry[part], _hash(entry["salt"], secret))


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt} {secret}".encode()).hexdigest()


@contextlib.contextmanager
def _register() -> Iterator[dict[str, dict[str, str]]]:
    """Give the register to one process at a time, and write what the block has changed."""
    with writing_runs():
        settings.checkpoints().mkdir(parents=True, exist_ok=True)
        with FileLock(settings.checkpoints() / f"{REGISTER}.lock"):
            people = _read()
            yield people
            write_atomic(settings.checkpoints() / REGISTER, json.dumps(people, indent=1).encode())


def _read() -> dict[str, dict[str, str]]:
    """Return the entries by name in lower case: id, name, salt, hash of the key, hash of the teacher's code."""
    try:
        people: Any = json.loads((settings.checkpoints() / REGISTER).read_bytes())
        if all({"id", "name"} <= entry.keys() for entry in people.values()):
            return people
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        pass
    raise RunError(f"'{REGISTER}', the names of the class beside its runs, cannot be read. Restore that file.")
