"""Log lines are structured, and no text that may quote health data is in them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from fhir_server.logging import Level, configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail() -> None:
    try:
        raise ValueError("Jane Doe, born 1970-01-01")
    except ValueError as error:
        raise RuntimeError("duplicate key: Jane Doe") from error


def test_an_event_is_one_object_with_time_level_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    structlog.get_logger("hs").info("request", method="GET", status=200)
    (line,) = lines_of(capsys)
    assert (line["event"], line["level"], line["method"], line["status"]) == ("request", "info", "GET", 200)
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("ours", [True, False])
def test_an_exception_is_logged_by_type_and_place_without_its_text(
    ours: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json")
    try:
        fail()
    except RuntimeError:
        if ours:
            structlog.get_logger("hs").exception("failed")
        else:
            logging.getLogger("library").exception("failed")
    (line,) = lines_of(capsys)
    assert line["error"] == "RuntimeError from ValueError"
    assert isinstance(line["at"], list)
    assert line["at"][-1].endswith(" fail")
    assert "Jane" not in json.dumps(line)


@pytest.mark.parametrize(("level", "seen"), [("debug", True), ("info", False)])
def test_the_text_of_an_exception_is_for_developers_only(
    level: Level, seen: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level, "console")
    try:
        fail()
    except RuntimeError:
        structlog.get_logger("hs").exception("failed")
    assert ("Jane" in capsys.readouterr().err) is seen


def test_the_driver_never_logs_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("pymongo.command").debug("find Jane")
    assert lines_of(capsys) == []


def test_lines_go_to_what_standard_error_is_when_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner lends a command a stream, and closes it afterwards."""
    lent, later = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", lent)
    configure_logging("info", "json")
    structlog.get_logger("hs").info("first")
    assert "first" in lent.getvalue()
    lent.close()
    monkeypatch.setattr(sys, "stderr", later)
    structlog.get_logger("hs").info("second")
    logging.getLogger("library").warning("third")
    assert [json.loads(line)["event"] for line in later.getvalue().splitlines()] == ["second", "third"]
