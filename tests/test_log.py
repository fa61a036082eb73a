"""The log of a host: one line an action, without secrets, that nobody can forge."""

import logging

import pytest
from made_runs import made_run

from leukodash import log
from leukodash.errors import NotAllowedError
from leukodash.runs import trash
from leukodash.runs.access import Actor, change_about, require

ANNA = Actor("0123456789abcdef", "Anna", "student")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "leukodash")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_says_who_did_what(lines):
    log.record("start", ANNA, run="20260101-000000-mobilenet-1234", epochs=3)
    assert lines() == ["start role=student by=01234567 run=20260101-000000-mobilenet-1234 epochs=3"]


def test_a_text_cannot_forge_a_line_or_a_field(lines):
    log.record("import", ANNA, source="a\n2026-01-01 delete role=teacher", other="x role=teacher \x1b[2J\u2028")
    (line,) = lines()
    assert line.isprintable()
    assert line == (
        r'import role=student by=01234567 source="a\n2026-01-01 delete role=teacher" other="x role=teacher '
        r'\u001b[2J\u2028"'
    )


def test_a_long_value_is_cut(lines):
    log.record("edit", None, why="x" * 10_000)
    assert len(lines()[0]) < 300


def test_whoever_sends_the_request_is_named_where_no_one_is_given(lines):
    log.acting(ANNA)
    log.record("classify", cells=3)
    log.acting(Actor())
    assert lines() == ["classify role=student by=01234567 cells=3"]


def test_actions_and_refusals_are_recorded(lines, monkeypatch):
    monkeypatch.setenv("LEUKODASH_CLASS", "1")
    run = made_run("mobilenet")
    with pytest.raises(NotAllowedError):
        require(ANNA, "delete", run)
    operator = Actor(role="operator")
    change_about(run, operator, title="secret plan")
    trash.bring_back(trash.discard(run, operator).id, operator)
    who = "role=operator"
    assert lines() == [
        f"refused role=student by=01234567 action=delete run={run.id}",
        f"edit {who} run={run.id}",
        f"delete {who} run={run.id}",
        f"restore {who} run={run.id}",
    ]


def test_lines_go_to_standard_error_once_the_app_wants_them(capsys, monkeypatch):
    logger = logging.getLogger("leukodash")
    monkeypatch.setattr(logger, "handlers", [])
    log.record("before")
    for _ in range(3):  # reruns
        log.to_standard_error()
    log.record("start", ANNA)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [shown.err.strip()]
    assert shown.err.endswith(" start role=student by=01234567\n")
