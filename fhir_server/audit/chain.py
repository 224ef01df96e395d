"""The chain: each batch names the one before by its hash, so that none is changed, moved or removed unseen.

A hash covers the number, the moment, the count and the bytes of the events, and the hash of the batch before. Whoever
has the database alone could make the whole chain anew; so each hash is sealed, too: by an HMAC with a key that is not
in the database. Pure: nothing here reads or writes.

See RFC 2104; the idea: https://doi.org/10.1145/317087.317089 (Schneier and Kelsey, secure audit logs)
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: What stands before the first batch.
GENESIS = bytes(32)

_MARK = b"healthsphere-audit-1"


@dataclass(frozen=True, slots=True)
class Link:
    """One batch of the chain.

    Attributes:
        number: 1 for the first, one more for each
        previous: the hash of the batch before
        moment_us: when it was written
        count: how many events it holds
        packed: the events (`event.pack`)
        digest: the SHA-256 over all of the above
        seal: the HMAC over the digest; empty where no key was given
    """

    number: int
    previous: bytes
    moment_us: int
    count: int
    packed: bytes
    digest: bytes
    seal: bytes


def digest_of(number: int, previous: bytes, moment_us: int, count: int, packed: bytes) -> bytes:
    numbers = number.to_bytes(8, "big") + moment_us.to_bytes(8, "big") + count.to_bytes(4, "big")
    return hashlib.sha256(_MARK + numbers + previous + packed).digest()


def seal_of(key: bytes, digest: bytes) -> bytes:
    return hmac.digest(key, _MARK + digest, "sha256") if key else b""


def linked(number: int, previous: bytes, moment_us: int, count: int, packed: bytes, key: bytes = b"") -> Link:
    """The batch that follows another."""
    digest = digest_of(number, previous, moment_us, count, packed)
    return Link(number, previous, moment_us, count, packed, digest, seal_of(key, digest))


def row_of(link: Link) -> dict[str, Any]:
    """A batch as it is stored."""
    row = {
        "_id": link.number,
        "p": link.previous,
        "t": link.moment_us,
        "c": link.count,
        "z": link.packed,
        "h": link.digest,
    }
    return row | {"s": link.seal} if link.seal else row


def link_of(row: dict[str, Any]) -> Link:
    """The batch that a row holds; one without its events has empty ones."""
    return Link(row["_id"], row["p"], row["t"], row["c"], row.get("z", b""), row["h"], row.get("s", b""))


def fault_of(link: Link, number: int, previous: bytes, keys: Sequence[bytes] = ()) -> str | None:
    """What is wrong with a batch that should have this number and follow that hash; None when nothing is.

    Args:
        keys: those that may have sealed it; none: seals are not looked at.
    """
    if link.number != number:
        gone = str(number) if link.number == number + 1 else f"{number} to {link.number - 1}"
        return f"batch {gone} is missing"
    if link.previous != previous:
        return "it does not follow the batch before it, which was changed, removed or put in between"
    if link.digest != digest_of(link.number, link.previous, link.moment_us, link.count, link.packed):
        return "its contents are not those that were written"
    if keys and not any(hmac.compare_digest(seal_of(key, link.digest), link.seal) for key in keys):
        return "it does not carry the seal of this server"
    return None
