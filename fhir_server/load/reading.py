"""Reading a source into parcels: a document whole, NDJSON line by line so that a file of any size needs no memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from fhir_server.load.parcels import (
    BOM,
    Gathering,
    Item,
    Parcel,
    Unreadable,
    parcels_of_document,
)
from fhir_server.load.shapes import Head, head_decoder
from fhir_server.load.sources import Opened, Source, opened

#: A line beyond this is no resource but a file that is no NDJSON.
MAX_LINE_BYTES = 256_000_000


def parcels_of(source: Source, done: set[int], batch_entries: int) -> Generator[Parcel | Unreadable, None, None]:
    """The requests for a source, in its order; items whose index is in `done` (an earlier run's) are left out.

    A file that cannot be read gives one `Unreadable`. `read_bytes` of all parcels tells how far the file is read.
    """
    try:
        file = opened(source)
        try:
            yield from _parcels(file, source, done, batch_entries)
        finally:
            file.close()
    except (OSError, EOFError) as error:
        yield Unreadable(Item(0, "", ""), f"It cannot be read: {error}.")


def _parcels(file: Opened, source: Source, done: set[int], batch_entries: int) -> Iterator[Parcel | Unreadable]:
    if source.suffix == ".json":
        yield from parcels_of_document(file.reader.read(), done, batch_entries)
        return
    first = file.reader.readline(MAX_LINE_BYTES)
    if source.suffix in (".ndjson", ".jsonl") or _is_document(first):
        yield from _parcels_of_lines(file, first, done, batch_entries)
    else:
        yield from parcels_of_document(first + file.reader.read(), done, batch_entries)


def _is_document(line: bytes) -> bool:
    """Whether a first line is a whole resource: then the source is NDJSON."""
    try:
        return bool(head_decoder.decode(line.removeprefix(BOM)).resource_type)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _parcels_of_lines(file: Opened, first: bytes, done: set[int], batch_entries: int) -> Iterator[Parcel | Unreadable]:
    gathering = Gathering()
    line, number, told = first.removeprefix(BOM), 1, 0
    while line:
        text = line.strip()
        if text and number not in done:
            head = _head_of(text, number)
            if isinstance(head, Unreadable):
                yield head
            elif head.resource_type == "Bundle":
                yield from parcels_of_document(text, done, batch_entries, number)
            else:
                gathering.add(text, head, Item(number, f"line {number}", head.resource_type))
        if gathering.is_full(batch_entries):
            position = file.position_bytes()
            parcel, gathering = gathering.parcel(), Gathering()
            parcel.read_bytes, told = position - told, position
            yield parcel
        line, number = file.reader.readline(MAX_LINE_BYTES), number + 1
    if gathering.parts:
        yield gathering.parcel()


def _head_of(text: bytes, number: int) -> Head | Unreadable:
    """Who the resource of a line is. The whole line is checked: one bad line must not spoil the batch around it."""
    item = Item(number, f"line {number}", "")
    try:
        head = head_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(item, f"It is no JSON of a FHIR resource: {error}.")
    if not head.resource_type:
        return Unreadable(item, "It has no resourceType, so it is no FHIR resource.")
    return head
