"""Time and identity: the moment of a version, and ids that grow with it."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache


def now_us() -> int:
    """Microseconds since 1970, rounded down to a millisecond: the precision of `meta.lastUpdated`."""
    return time.time_ns() // 1_000_000 * 1000


@lru_cache(maxsize=4096)
def _second_of(second: int) -> str:
    """Formatting a date is dear, and what was written together shares its second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def instant_of(moment_us: int) -> str:
    """`2026-11-22T11:38:12.345Z`, as `meta.lastUpdated` carries it."""
    second, fraction_us = divmod(moment_us, 1_000_000)
    return f"{_second_of(second)}.{fraction_us // 1000:03d}Z"


def http_date_of(moment_us: int) -> str:
    """`Sun, 22 Nov 2026 11:38:12 GMT`, as `Last-Modified` carries it."""
    return _http_second_of(moment_us // 1_000_000)


@lru_cache(maxsize=4096)
def _http_second_of(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)


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
