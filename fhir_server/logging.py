"""Structured log lines on standard error, without health data.

An event is a name and facts about the machinery (method, status, duration, counts); resources, identifiers, search
values and bodies are never logged. The text of an exception may quote any of these, so that of an exception is logged
which is its type and the places it went through; its text is shown at level `debug` only, for a developer's machine.
"""

from __future__ import annotations

import logging
import logging.config
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment.

    `logging.StreamHandler` keeps the stream that it found when it was made. A command that runs inside another program
    (a test's runner, which lends it a stream and closes that afterwards) would leave a log that cannot be written.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # an attribute there
        return sys.stderr


def configure_logging(level: Level = "info", form: Format = "auto") -> None:
    """Send the log of this process, that of the libraries included, to standard error.

    Args:
        level: the least level that is shown.
        form: `json` is one object a line, `console` is for people; `auto` takes the latter on a terminal.
    """
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _frames_with_text if level == "debug" else _frames,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [structlog.stdlib.PositionalArgumentsFormatter(), structlog.stdlib.ExtraAdder(), *shared],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_colour_twin, renderer],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {"stderr": {"()": StandardError, "formatter": "line"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {
                # Their debug lines hold commands, URLs or answers, so health data.
                "pymongo": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                "asyncio": {"level": "WARNING"},
                # Its starts and stops are told by the command line.
                "uvicorn": {"level": "WARNING"},
            },
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _exception_of(event: Mapping[str, Any]) -> BaseException | None:
    match event.get("exc_info"):
        case BaseException() as error:
            return error
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
    return None


def _frames(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its types, innermost cause last, and the places it went through."""
    error = _exception_of(event)
    event.pop("exc_info", None)
    if error is None:
        return event
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 10:
        chain.append(type(current).__qualname__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    places = traceback.extract_tb(error.__traceback__)
    event["error"] = " from ".join(chain)
    event["at"] = [f"{place.filename}:{place.lineno} {place.name}" for place in places[-12:]]
    return event


def _frames_with_text(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    error = _exception_of(event)
    event = _frames(logger, name, event)
    if error is not None:
        event["text"] = str(error)
    return event


def _without_colour_twin(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """uvicorn sends every message a second time, with terminal colours."""
    event.pop("color_message", None)
    return event
