"""Bundles: read as an envelope whose resources stay bytes, written by joining stored bytes.

Spec: https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import Issue, outcome_of

Pairs = list[tuple[str, str]]


class EntryRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    method: str
    url: str
    ifNoneMatch: str | None = None
    ifModifiedSince: str | None = None
    ifMatch: str | None = None
    ifNoneExist: str | None = None
    id: str | None = None
    extension: Any = None


#: The bytes of an entry that has no resource.
NOTHING = msgspec.Raw(b"")


class Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    fullUrl: str | None = None
    resource: msgspec.Raw = NOTHING
    request: EntryRequest | None = None
    search: Any = None
    response: Any = None
    link: Any = None
    id: str | None = None
    extension: Any = None
    modifierExtension: Any = None


class Envelope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A Bundle whose resources are not looked at yet: 25,000 of them stay as small as their bytes."""

    resourceType: str
    type: str | None = None
    entry: list[Entry] = []
    id: str | None = None
    meta: Any = None
    implicitRules: str | None = None
    language: str | None = None
    identifier: Any = None
    timestamp: str | None = None
    total: int | None = None
    link: Any = None
    signature: Any = None
    _id: Any = None
    _type: Any = None


def link(relation: str, base: str, pairs: Pairs) -> dict[str, str]:
    return {"relation": relation, "url": f"{base}?{urlencode(pairs, safe=':/|,$')}" if pairs else base}


def searchset(
    *,
    total: int | None,
    links: list[dict[str, str]],
    matches: Iterable[tuple[str, bytes]],
    issues: list[Issue],
    details: Mapping[str, bytes] | None = None,
    included: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """A searchset of resources that are bytes already, each with its full URL.

    Included resources come behind the matches, with the mode `include`. `details` are further members of `search` by
    full URL, as JSON (`"score":1`). Issues become one OperationOutcome entry at the end, with the mode `outcome`.
    """
    entries = [
        b'{"fullUrl":"%b","resource":%b,"search":{"mode":"match"%b}}' % (url.encode(), body, _detail(details, url))
        for url, body in matches
    ]
    entries += [
        b'{"fullUrl":"%b","resource":%b,"search":{"mode":"include"}}' % (url.encode(), body) for url, body in included
    ]
    if issues:
        entries.append(b'{"resource":%b,"search":{"mode":"outcome"}}' % codec.encode(outcome_of(issues)))
    head: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": None,
        "meta": None,
        "type": "searchset",
        "total": total,
        "link": links,
    }
    return joined(head, entries)


def _detail(details: Mapping[str, bytes] | None, url: str) -> bytes:
    detail = details.get(url) if details else None
    return b"," + detail if detail else b""


def joined(head: dict[str, Any], entries: list[bytes]) -> bytes:
    """A Bundle of a head and entries that are JSON already; members that are None, or no entry at all, are left out."""
    start = codec.encode({name: value for name, value in head.items() if value is not None})
    if not entries:
        return start
    return b"".join((start[:-1], b',"entry":[', b",".join(entries), b"]}"))


def timestamp() -> str:
    return instant_of(now_us())
