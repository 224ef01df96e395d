"""Moments: the clock of this part, and moments as texts of FHIR and as the microseconds that rows hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from fhir_server.model.clock import now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import FhirError, UnprocessableError


def now() -> datetime:
    """The moment; the one clock of this part, which tests set."""
    return datetime_of(now_us())


def us_of(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def datetime_of(moment_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)


def parsed(text: object, place: str) -> datetime:
    """The moment of an instant or dateTime, in UTC.

    Raises:
        UnprocessableError: 422; it names no moment.
    """
    try:
        return interval_of(str(text)).start
    except FhirError:
        raise UnprocessableError(
            f"{str(text)[:40]!r} names no moment; something like 2026-11-30T09:00:00+02:00 was expected.",
            expression=place,
            key="HS-SCHED-MOMENT",
        ) from None


def text_of(moment: datetime, zone: tzinfo = UTC) -> str:
    """An instant of FHIR, as the clocks of a zone show it."""
    text = moment.astimezone(zone).isoformat(timespec="seconds" if moment.microsecond == 0 else "milliseconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
