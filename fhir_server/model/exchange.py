"""The plain request and answer that interactions know; no web framework reaches below `http`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple
from urllib.parse import parse_qsl

from fhir_server.model.errors import InvalidError

#: Stands in the JSON of an answer where a content is to stand; base64 as far as readers can see, and not to be guessed.
MARK = secrets.token_hex(24).encode()


@dataclass(slots=True)
class Content:
    """Bytes that pass through piece by piece, never whole in memory.

    Attributes:
        pieces: the bytes; can be read once
        length: how many bytes they are
        media_type: what they are, as the whole body of an answer; None where they replace `MARK` in its body
    """

    pieces: AsyncIterator[bytes]
    length: int
    media_type: str | None = None


@dataclass(slots=False)
class Request:
    """One FHIR request, from the network or from an entry of a Bundle.

    Attributes:
        method: the HTTP method in capitals; HEAD has become GET
        path: the parts below the FHIR base, percent-decoded (`("Patient", "1", "_history")`)
        query: the text behind `?`, still encoded
        headers: by lower-case name
        body: the bytes of the body, of type `content_type` without its parameters
        head: whether it came as HEAD, so that the body of the answer is not wanted
        base_url: the FHIR base as the client addresses it, without a slash at the end
        preferred: of the read of a Binary, the media ranges that the client likes best
        content: of a Binary that is sent as it is, its bytes; `body` is empty then
        nested: whether it is an entry of a Bundle, so that its answer must be a resource
    """

    method: str
    path: tuple[str, ...]
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = ""
    base_url: str = ""
    head: bool = False
    preferred: frozenset[str] = frozenset()
    content: AsyncIterator[bytes] | None = None
    nested: bool = False

    @cached_property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of the query, and of the body where that is a form (POST `_search`), decoded, in order."""
        pairs = decoded(self.query)
        if self.method == "POST" and self.content_type == "application/x-www-form-urlencoded":
            try:
                pairs += decoded(self.body.decode())
            except UnicodeDecodeError:
                raise InvalidError("The form is not UTF-8.", code="structure", key="HS-HTTP-FORM") from None
        return pairs


def decoded(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise InvalidError(f"The parameters cannot be read: {error}.", code="structure", key="HS-HTTP-QUERY") from None


class Touched(NamedTuple):
    """A version that a request has made, for the audit trail.

    Attributes:
        reference: `Patient/1/_history/3`
        body: its JSON; None for a deletion
        before: the JSON of the version that it replaced
    """

    reference: str
    body: bytes | None = None
    before: bytes | None = None


@dataclass(slots=True)
class Answer:
    """One FHIR answer.

    Attributes:
        status: the HTTP status
        body: the JSON of a resource, or nothing
        headers: further headers by their usual names
        version: the version that the answer is about: its `ETag`
        moment_us: when that version was made: its `Last-Modified`
        content: bytes that stream: the whole body, or a part of it
        touched: the versions that were made, where neither address nor `Location` tells
        entries: of a batch or transaction, each entry's request and answer, bodies of what was written left out
    """

    status: int
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    version: int | None = None
    moment_us: int | None = None
    content: Content | None = None
    touched: tuple[Touched, ...] = ()
    entries: tuple[tuple[Request, Answer], ...] = ()
