"""Pages: a cursor names the row at which a page ends, not how many came before, so writes in between move nothing.

A cursor is opaque to clients: URL-safe base64 of a compact JSON array `[direction, fingerprint, id, key…]`. The
fingerprint ties it to its query; what it can name is a place in that query's order, nothing that access rules hide.

Spec: https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from fhir_server.model.errors import InvalidError
from fhir_server.search.controls import CURSOR
from fhir_server.search.include import INCLUDES
from fhir_server.search.query import Search, SortKey
from fhir_server.search.sort import ENDS, KeyValue, Order, Place

#: `n`: after the place. `p`: before it. `q`: before it, and at it.
Direction = Literal["n", "p", "q"]

#: These choose what is shown of a page; a cursor serves whatever they say.
_NOT_IN_FINGERPRINT = frozenset(("_count", "_total", "_summary", "_elements", CURSOR, *INCLUDES))

_MAX_CHARS = 8_000
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of matches.

    Attributes:
        rows: documents with `_id`, `v`, `t` and `r` (the resource's JSON), and `distance_m` or `score` where that is
            the order
        next: the cursor of the page after this one; None at the end
        previous: the cursor of the page before this one; None at the beginning
        total: the number of all matches, when it was asked for or is known anyway
    """

    rows: list[dict[str, Any]]
    next: str | None = None
    previous: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page lies: beyond a place, forward or backward."""

    direction: Direction
    place: Place

    @property
    def forward(self) -> bool:
        return self.direction == "n"


def cursor_text(search: Search, cursor: Cursor) -> str:
    """The cursor as links carry it."""
    row = [cursor.direction, fingerprint_of(search), cursor.place.id, *cursor.place.keys]
    return urlsafe_b64encode(msgspec.json.encode(row)).rstrip(b"=").decode()


def cursor_of(search: Search, order: Order) -> Cursor | None:
    """Read a search's cursor.

    Raises:
        InvalidError: 400; it is not one of ours, or belongs to another query.
    """
    row = cursor_at(search)
    if row is None:
        return None
    if len(row) - 3 != len(order.keys):
        raise mangled()
    keys = tuple([_key_of(value, key) for value, key in zip(row[3:], order.keys, strict=True)])
    return Cursor(row[0], Place(keys, row[2]))


def cursor_at(search: Search) -> list[Any] | None:
    """A search's cursor as its direction, fingerprint, id and keys, which are whatever the client has sent.

    Raises:
        InvalidError: 400; it is not one of ours, or belongs to another query.
    """
    if search.cursor is None:
        return None
    row = _decoded(search.cursor)
    if len(row) < 3 or row[0] not in ("n", "p", "q") or not isinstance(row[2], str):
        raise mangled()
    if row[1] != fingerprint_of(search):
        raise InvalidError(
            "The page cursor belongs to another search: its parameters or its order were changed. Follow the links of "
            "a search as they are, or start again without _cursor.",
            key="HS-SEARCH-CURSOR",
            expression=f"http.{CURSOR}",
        )
    return row


def fingerprint_of(search: Search) -> str:
    """What two searches share exactly when they have the same matches in the same order."""
    parts = [search.compartment, search.resource_type, *(p for p in search.applied if p[0] not in _NOT_IN_FINGERPRINT)]
    return blake2b(msgspec.json.encode(parts), digest_size=6).hexdigest()


def _decoded(text: str) -> list[Any]:
    try:
        if len(text) > _MAX_CHARS:
            raise mangled()
        row = msgspec.json.decode(urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (UnicodeError, binascii.Error, msgspec.DecodeError, RecursionError):
        raise mangled() from None
    if not isinstance(row, list):
        raise mangled()
    return row


def _key_of(value: Any, key: SortKey) -> KeyValue:
    """One key of the type that its parameter sorts by; it comes from outside and may be anything."""
    if key.positions or key.terms:
        return _distance(value)
    ends = None if key.parameter.field == "t" else ENDS.get(key.parameter.type)
    if value is None and key.parameter.field != "t":
        return None
    if ends is None:
        if key.parameter.field == "t":
            return _moment(value)
        if not isinstance(value, str) or "\0" in value:
            raise mangled()
        return value
    if not isinstance(value, list) or len(value) != 2:
        raise mangled()
    if key.parameter.type == "date":
        return _moment(value[0]), _moment(value[1])
    return _decimal(value[0]), _decimal(value[1])


def _distance(value: Any) -> float:
    if type(value) is not float:
        raise mangled()
    return value


def _moment(value: Any) -> int:
    if type(value) is not int or value not in _INT64:
        raise mangled()
    return value


def _decimal(value: Any) -> Decimal:
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or len(number.as_tuple().digits) > 34 or abs(number.adjusted()) > 6000:
        raise mangled()
    return number


def mangled() -> InvalidError:
    """400: a cursor that this server did not make."""
    return InvalidError(
        "The page cursor is not one that this server made, or was cut short on its way. Follow the links of a search "
        "as they are, or start again without _cursor.",
        key="HS-SEARCH-CURSOR",
        expression=f"http.{CURSOR}",
    )
