"""Who may do what. Pages and the command line ask `may`, whatever acts on a run calls `require`, so does its process.

On one's own machine everything is allowed. In a class (``LEUKODASH_CLASS=1``) students act on their own runs and
teachers on all. In a public demo (``LEUKODASH_PUBLIC=1``) visitors see and act on their own runs alone, within limits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from leukodash import settings
from leukodash.config.form_schema import Setting, settings_of
from leukodash.config.run_config import RunConfig
from leukodash.errors import NotAllowedError, RunError
from leukodash.log import record
from leukodash.models.backbones import BACKBONES, HEAD, Backbone
from leukodash.models.weights import find_weights
from leukodash.runs.run_folder import LIVE, Run, about_texts, list_runs

Role = Literal["anyone", "visitor", "student", "teacher", "operator"]
Action = Literal["see", "train", "search rates", "stop", "resume", "edit", "delete", "restore", "import", "export"]

DOING: dict[Action, str] = {
    "see": "be seen",
    "stop": "be stopped",
    "resume": "be resumed",
    "edit": "be changed",
    "delete": "be deleted",
    "restore": "be restored",
    "export": "be exported",
}
OFF_IN_PUBLIC: dict[Action, str] = {
    "search rates": "The search for a learning rate",
    "import": "The import of predictions",
    "export": "The export of networks",
}
# Limits of a public demo
MAX_EPOCHS = 30
MAX_INPUT_SIZE = 224  # pixels
MAX_SECONDS = 600.0  # that a run takes by the estimate
MAX_WAITING_OWN, MAX_WAITING = 2, 12  # queued and running runs of one visitor, and of all visitors
MAX_KEPT_OWN, MAX_KEPT = 4, 60  # runs that have ended, of one visitor and of all visitors; the oldest are deleted


@dataclass(frozen=True)
class Actor:
    """Who acts.

    Attributes:
        id: identifies a visitor, student or teacher; stored with a run as ``by``. It is no secret.
        name: shown as the owner of their runs.
        role: ``operator`` is whoever runs commands on the machine; ``anyone`` is unknown: allowed everything on one's
            own machine, and nothing elsewhere.
    """

    id: str = ""
    name: str = ""
    role: Role = "anyone"


ANYONE = Actor()
OPERATOR = Actor(role="operator")


def may(actor: Actor, action: Action, run: Run | None = None) -> bool:
    """Return whether someone may do something, with a run where the action is about one."""
    return not refusal(actor, action, run)


def require(actor: Actor, action: Action, run: Run | None = None) -> None:
    """Raise NotAllowedError, a sentence that says why, if someone may not do this."""
    if words := refusal(actor, action, run):
        record("refused", actor, action=action, run=run.id if run else "")
        raise NotAllowedError(words)


def refusal(actor: Actor, action: Action, run: Run | None = None) -> str:
    """Return why someone may not do this, as a sentence; "" if they may."""
    if _off(actor, action):
        return f"{OFF_IN_PUBLIC[action]} is off in this public demo. It works in LeukoDash on your own machine."
    if _open_to(actor, action, run):
        return ""
    if run is not None and run.published:
        return f"{_name(run)} is a published run: it comes with LeukoDash and cannot {DOING[action]}."
    if actor.role == "anyone":
        return "Sign in first: nothing can be changed here without a name."
    assert run is not None
    return f"{_name(run)} is another person's run and cannot {DOING[action]} by you. You can change your own runs."


def _open_to(actor: Actor, action: Action, run: Run | None) -> bool:
    if run is not None and run.published:
        return action in ("see", "export")
    if actor.role in ("operator", "teacher") or not settings.shared():
        return True
    if action == "see" and (actor.role == "student" or run is None or not run.by):
        return True
    return actor.role != "anyone" and (run is None or run.by == actor.id)


def _name(run: Run) -> str:
    try:
        return run.title
    except RunError:  # its config cannot be read
        return run.id


def _off(actor: Actor, action: Action) -> bool:
    return actor.role == "visitor" and action in OFF_IN_PUBLIC


def change_about(run: Run, actor: Actor = ANYONE, **texts: str) -> None:
    """Change title, owner or notes of a run. Raises NotAllowedError if the actor may not, RunError for long texts."""
    require(actor, "edit", run)
    run.write("about.json", run.about | about_texts(**texts))
    record("edit", actor, run=run.id)


def visible(actor: Actor, runs: Iterable[Run]) -> list[Run]:
    """Return the runs that someone may see, in order."""
    return [run for run in runs if may(actor, "see", run)]


def require_settings(actor: Actor, config: RunConfig) -> None:
    """Raise NotAllowedError for settings that someone may not train with: in a public demo, long or large runs."""
    if words := settings_refusal(actor, config):
        record("refused", actor, action="train", why="settings")
        raise NotAllowedError(words)


def settings_refusal(actor: Actor, config: RunConfig) -> str:
    """Return why someone may not train with these settings, as a sentence; "" if they may."""
    if actor.role != "visitor":
        return ""
    reasons = {
        f"train at most {MAX_EPOCHS} epochs, not {config.epochs:,}": config.epochs > MAX_EPOCHS,
        f"have at most {MAX_INPUT_SIZE} pixels a side, not {config.input_size}": config.input_size > MAX_INPUT_SIZE,
        "use the generated cells or the sample cells": not built_in(Path(config.data)),
        "train the head of a frozen network, without random brightness, stain or rotation": (
            config.train_from != HEAD or config.full_path
        ),
        "use a network whose weights are on this server": find_weights(config.spec) is None,
        "have at most 512 units in a layer": any(step > 512 for step in config.head),
    }
    broken = [words for words, is_broken in reasons.items() if is_broken]
    if not broken:
        return ""
    return f"In this public demo a run must {' and '.join(broken)}. LeukoDash on your own machine has no such limits."


def require_room(actor: Actor, count: int = 1) -> None:
    """Raise NotAllowedError if a visitor has, or all visitors have, too many runs waiting for `count` more."""
    if words := room_refusal(actor, count):
        raise NotAllowedError(words)


def room_refusal(actor: Actor, count: int = 1) -> str:
    """Return why a visitor may not start `count` more runs now, as a sentence; "" if they may."""
    if actor.role != "visitor":
        return ""
    if count > MAX_WAITING_OWN:
        return f"In this public demo you can have {MAX_WAITING_OWN} runs at a time, not {count}. Choose fewer."
    live = [run for run in list_runs() if run.by and run.state in LIVE]
    if sum(run.by == actor.id for run in live) + count > MAX_WAITING_OWN:
        return f"In this public demo you can have {MAX_WAITING_OWN} runs at a time. Wait for yours, or stop one."
    if len(live) + count > MAX_WAITING:
        return "Too many visitors train here right now. Try again in some minutes."
    return ""


def offered_networks(actor: Actor) -> list[str]:
    """Return the networks, as keys of `BACKBONES`, that a form offers someone: to visitors those with weights here."""
    return [key for key, spec in BACKBONES.items() if actor.role != "visitor" or find_weights(spec)]


def offered_settings(actor: Actor, spec: Backbone) -> list[Setting]:
    """Return the settings that a form offers someone, with the limits of a public demo for its visitors."""
    limits = {"epochs": MAX_EPOCHS, "input_size": MAX_INPUT_SIZE} if actor.role == "visitor" else {}
    found = settings_of(spec)
    return [replace(each, high=limits[each.name]) if each.name in limits else each for each in found]


def surplus(actor: Actor) -> list[Run]:
    """Return the visitors' ended runs beyond what a public demo keeps, the oldest ones; the actor's own come first."""
    if actor.role != "visitor":
        return []
    ended = [run for run in list_runs() if run.by and run.state not in LIVE]  # newest first
    own = [run for run in ended if run.by == actor.id]
    too_many = [*own[MAX_KEPT_OWN:], *ended[MAX_KEPT:]]
    return list(dict.fromkeys(too_many))


def turn(actor: Actor) -> int:
    """Return the round of the queue in which a new run of someone has its turn.

    First runs of all people come before second runs of anybody, and one's own stay in order. Without a sign-in, all
    runs have round 0, and the queue is in the order of the requests.
    """
    own = [run.status for run in list_runs() if run.by == actor.id] if actor.id else []
    return 1 + max((status.get("turn", 0) for status in own if status["state"] in LIVE), default=-1)


def built_in(folder: Path) -> bool:
    """Return whether a data set comes with LeukoDash: generated cells or the sample cells."""
    return folder.resolve() == settings.asset("cells").resolve() or (folder / "generated.json").is_file()
