"""A page of a search or history as newline-delimited JSON: one resource per line, the links beside it.

Spec: https://hl7.org/fhir/R4/nd-json.html, https://www.rfc-editor.org/rfc/rfc8288
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec


class _Link(msgspec.Struct):
    relation: str
    url: str


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw(b"")


class _Page(msgspec.Struct):
    resourceType: str
    type: str = ""
    link: list[_Link] = []
    entry: list[_Entry] = []


@dataclass(frozen=True, slots=True)
class Lines:
    """The resources of a page, each on a line that ends with a line feed, and the value of the `Link` header."""

    body: bytes
    link: str


_decoder = msgspec.json.Decoder(_Page)


def lines_of(bundle: bytes, relink: Callable[[str], str] | None = None) -> Lines | None:
    """The lines of a searchset or history in JSON; None when it is something else.

    Entries without a resource (deletions) give no line; `relink` changes the addresses of the links.
    """
    try:
        page = _decoder.decode(bundle)
    except msgspec.ValidationError:
        return None
    if page.resourceType != "Bundle" or page.type not in ("searchset", "history"):
        return None
    body = b"".join(line_of(bytes(entry.resource)) for entry in page.entry if entry.resource)
    links = [f'<{relink(one.url) if relink else one.url}>; rel="{one.relation}"' for one in page.link]
    return Lines(body, ", ".join(links))


def line_of(resource: bytes) -> bytes:
    """One resource on one line."""
    if b"\n" in resource or b"\r" in resource:
        resource = msgspec.json.format(resource, indent=-1)
    return resource + b"\n"
