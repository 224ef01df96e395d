"""Time and identity: the moment of a version, and ids that grow with it."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Microseconds since 1970, rounded down to a millisecond: the precision of `meta.lastUpdated`."""
    return time.time_ns() // 1_000_000 * 1000


_second_text: tuple[int, str] = (-1, "")


def instant_of(moment_us: int) -> str:
    """`2026-11-22T11:38:12.345Z`, as `meta.lastUpdated` carries it."""
    global _second_text
    second, fraction_us = divmod(moment_us, 1_000_000)
    if _second_text[0] != second:  # formatting a date is dear; within one second only the fraction differs
        _second_text = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{_second_text[1]}.{fraction_us // 1000:03d}Z"


def http_date_of(moment_us: int) -> str:
    """`Sun, 22 Nov 2026 11:38:12 GMT`, as `Last-Modified` carries it."""
    return format_datetime(datetime.fromtimestamp(moment_us // 1_000_000, UTC), usegmt=True)


def moment_of_http_date(text: str) -> int | None:
    """The moment of an HTTP date, in microseconds; None when it is none (RFC 9110 asks to ignore it then)."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000


def new_id() -> str:
    """A logical id: a UUID of version 7, so that ids made later sort later and indexes grow at one end.

    Spec: https://hl7.org/fhir/R4/datatypes.html#id, RFC 9562 section 5.7
    """
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
