"""Whose data an answer shows: the Patients that its bytes name.

It looks at bytes, long after the answer has gone: to parse each answer would cost more than to make it did. Every
reference to a Patient of this server counts, whatever its element is called: an Observation names its subject, a Group
its members.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

_ID = rb"([A-Za-z0-9\-.]{1,64})"


@lru_cache(maxsize=16)
def scanner_of(base_url: str) -> Callable[[bytes], list[bytes]]:
    """Finds the ids of Patients in JSON as the codec writes it (no white space, `id` right behind `resourceType`)."""
    base = re.escape(base_url.rstrip("/").encode() + b"/")
    local = rb'"re(?:ference":"(?:%b)?Patient/|sourceType":"Patient","id":")' % base
    return re.compile(local + _ID).findall


@lru_cache(maxsize=16)
def _spaced_scanner_of(base_url: str) -> Callable[[bytes], list[bytes]]:
    """The same in JSON of whatever spelling, as clients send it; a Patient itself is not found."""
    base = re.escape(base_url.rstrip("/").encode() + b"/")
    return re.compile(rb'"reference"\s*:\s*"(?:%b)?Patient/' % base + _ID).findall


def patients_in(body: bytes | None, base_url: str) -> tuple[str, ...]:
    """The ids of the Patients that an answer names, each once, in the order of the answer."""
    return _once(scanner_of(base_url)(body)) if body else ()


def patients_sent(body: bytes, base_url: str) -> tuple[str, ...]:
    """The ids of the Patients that a request names."""
    return _once(_spaced_scanner_of(base_url)(body)) if body else ()


def _once(found: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.decode() for part in found))
