"""Objects as rows of the database, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, TypeVar

import msgspec

from smart_auth.store import Row

T = TypeVar("T")


def plain_of(value: Any) -> Row:
    """A dataclass as a part of a row."""
    plain: Row = msgspec.to_builtins(value, builtin_types=(datetime,))
    return plain


def row_of(value: Any, key: str) -> Row:
    """The row of a dataclass, whose field `key` becomes the row's `_id`."""
    row = plain_of(value)
    return {"_id": row.pop(key), **row}


def object_of(kind: type[T], row: Row, key: str) -> T:
    """The dataclass of a row; fields that it does not know are left out."""
    return msgspec.convert({**row, key: row["_id"]}, kind)


def digest_of(secret: str) -> str:
    """What is stored of a token that only its holder may know; it is random, so it needs no salt."""
    return sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """256 bits that nobody can guess, in letters that URLs and headers take."""
    return token_urlsafe(32)


def now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
