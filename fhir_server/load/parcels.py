"""What is sent: a file's contents cut into requests, each with what must be known to judge its answer.

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from fhir_server.load.shapes import (
    Bundle,
    Entry,
    Head,
    bundle_decoder,
    head_decoder,
    raw_entries_decoder,
    raw_resources_decoder,
)

BOM = b"\xef\xbb\xbf"
BATCH_BYTES = 4_000_000
Kind = Literal["resource", "batch", "transaction"]

_CONDITIONAL_REFERENCE = re.compile(rb'"reference"\s*:\s*"[A-Z][A-Za-z]+\?')


@dataclass(frozen=True, slots=True)
class Item:
    """One resource, or one action, of a parcel: its index in the file, how a reader finds it, and what is asked."""

    index: int
    place: str
    type: str
    method: str = "PUT"
    conditional: bool = False


@dataclass(slots=True)
class Parcel:
    """One HTTP request. `repeatable`: sending it twice does the same as sending it once."""

    kind: Kind
    method: str
    path: str
    body: bytes
    items: list[Item]
    repeatable: bool = True
    read_bytes: int = 0

    @property
    def awaits_others(self) -> bool:
        """Whether it refers to resources by criteria, so that it may succeed once those are loaded."""
        return self.kind == "transaction" and _CONDITIONAL_REFERENCE.search(self.body) is not None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A part of a file that cannot be sent at all."""

    item: Item
    reason: str


@dataclass(slots=True)
class Gathering:
    """Resources on their way into one batch Bundle."""

    parts: list[bytes] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    size_bytes: int = 0
    repeatable: bool = True

    def add(self, raw: bytes, head: Head, item: Item, full_url: str | None = None) -> None:
        request = {"method": "PUT", "url": f"{head.resource_type}/{head.id}"}
        if not head.id:
            request = {"method": "POST", "url": head.resource_type}
        start = b"{" if full_url is None else b'{"fullUrl":' + msgspec.json.encode(full_url) + b","
        self.parts.append(start + b'"resource":' + raw + b',"request":' + msgspec.json.encode(request) + b"}")
        self.items.append(item)
        self.size_bytes += len(raw)
        self.repeatable = self.repeatable and head.id is not None

    def is_full(self, entries: int) -> bool:
        return len(self.parts) >= entries or self.size_bytes >= BATCH_BYTES

    def parcel(self, kind: Literal["batch", "transaction"] = "batch") -> Parcel:
        body = b'{"resourceType":"Bundle","type":"%s","entry":[%s]}' % (kind.encode(), b",".join(self.parts))
        return Parcel(kind, "POST", "", body, self.items, self.repeatable)


def parcels_of_document(
    data: bytes, done: set[int], batch_entries: int, line: int | None = None
) -> Iterator[Parcel | Unreadable]:
    """The requests for one JSON document; items whose index is in `done` are left out.

    A transaction or batch is sent as it is; the resources of a collection, searchset or history become batches (or one
    transaction, when they refer to each other by `urn:` addresses); any other resource, a document or message Bundle
    too, is stored under its id. `line` is the document's line when it comes from an NDJSON file.
    """
    data = data.removeprefix(BOM)
    index, place = (0, "") if line is None else (line, f"line {line}")
    try:
        head = head_decoder.decode(data)
        if not head.resource_type:
            yield Unreadable(Item(index, place, ""), "It has no resourceType, so it is no FHIR resource.")
            return
        bundle = bundle_decoder.decode(data) if head.resource_type == "Bundle" else Bundle()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Unreadable(Item(index, place, ""), f"It is no JSON of a FHIR resource: {error}.")
        return
    if bundle.type in ("transaction", "batch"):
        if line is None or line not in done:
            yield from _executed(data, bundle, index, place, done)
    elif bundle.type in ("collection", "searchset", "history") and line is None:
        yield from _contained(data, bundle, done, batch_entries)
    elif bundle.type.endswith("-response"):
        yield Unreadable(
            Item(index, place, "Bundle"), f"A Bundle of type {bundle.type} holds answers; nothing to load."
        )
    elif index not in done:
        yield resource_parcel(data, head, Item(index, place, head.resource_type))


def resource_parcel(data: bytes, head: Head, item: Item) -> Parcel:
    """A resource of its own: `PUT Type/id`, or `POST Type` when it has no id."""
    if head.id:
        return Parcel("resource", "PUT", f"{head.resource_type}/{head.id}", data, [item])
    return Parcel("resource", "POST", head.resource_type, data, [item], repeatable=False)


def _executed(data: bytes, bundle: Bundle, index: int, place: str, done: set[int]) -> Iterator[Parcel]:
    """A transaction or batch, unchanged; from NDJSON all its entries share the index of the line."""
    items = [
        Item(
            index=position if not place else index,
            place=f"{place} entry[{position}]".strip(),
            type=_type_of(entry),
            method=entry.request.method if entry.request else "",
            conditional=_conditional(entry),
        )
        for position, entry in enumerate(bundle.entry)
    ]
    if items and all(item.index in done for item in items):
        return
    if bundle.type == "batch" and any(item.index in done for item in items):
        left = [position for position, item in enumerate(items) if item.index not in done]
        yield subset(Parcel("batch", "POST", "", data, items, repeatable=False), left)
        return
    repeatable = all(_is_repeatable(entry) for entry in bundle.entry)
    yield Parcel("transaction" if bundle.type == "transaction" else "batch", "POST", "", data, items, repeatable)


def _type_of(entry: Entry) -> str:
    if entry.resource is not None:
        return entry.resource.resource_type
    return entry.request.url.split("/")[0].split("?")[0] if entry.request else ""


def _conditional(entry: Entry) -> bool:
    return entry.request is not None and entry.request.if_none_exist is not None


def _is_repeatable(entry: Entry) -> bool:
    return entry.request is not None and (entry.request.method not in ("POST", "PATCH") or _conditional(entry))


def subset(parcel: Parcel, positions: Sequence[int]) -> Parcel:
    """The batch of some entries of a batch: those that are worth another try."""
    raw = raw_entries_decoder.decode(parcel.body).entry
    entries = b",".join(bytes(raw[position]) for position in positions)
    body = b'{"resourceType":"Bundle","type":"batch","entry":[%s]}' % entries
    return Parcel("batch", "POST", "", body, [parcel.items[p] for p in positions], parcel.repeatable)


def _is_linked(bundle: Bundle) -> bool:
    """Whether entries refer to each other by addresses that only a transaction resolves, and one can take them all."""
    named = [(e.resource.resource_type, e.resource.id) for e in bundle.entry if e.resource and e.resource.id]
    return len(named) == len(set(named)) and any((e.full_url or "").startswith("urn:") for e in bundle.entry)


def _contained(data: bytes, bundle: Bundle, done: set[int], batch_entries: int) -> Iterator[Parcel | Unreadable]:
    linked = bundle.type == "collection" and _is_linked(bundle)
    gathering = Gathering()
    seen: set[tuple[str, str]] = set()
    for index, (entry, raw) in enumerate(zip(bundle.entry, raw_resources_decoder.decode(data).entry, strict=True)):
        head = entry.resource
        if head is None or (entry.search and entry.search.mode == "outcome"):
            continue
        if bundle.type == "history" and head.id:  # newest first: what follows of the same resource is the past
            if (head.resource_type, head.id) in seen:
                continue
            seen.add((head.resource_type, head.id))
        item = Item(index, f"entry[{index}]", head.resource_type)
        if index in done:
            continue
        if not head.resource_type:
            yield Unreadable(item, "The entry's resource has no resourceType.")
            continue
        gathering.add(bytes(raw.resource), head, item, entry.full_url if linked else None)
        if not linked and gathering.is_full(batch_entries):
            yield gathering.parcel()
            gathering = Gathering()
    if gathering.parts:
        yield gathering.parcel("transaction" if linked else "batch")
