"""The plain request and answer that interactions know; no web framework reaches below `http`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl

from fhir_server.model.errors import InvalidError


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
    """

    method: str
    path: tuple[str, ...]
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = ""
    base_url: str = ""
    head: bool = False

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


@dataclass(slots=True)
class Answer:
    """One FHIR answer.

    Attributes:
        status: the HTTP status
        body: the JSON of a resource, or nothing
        headers: further headers by their usual names
        version: the version that the answer is about: its `ETag`
        moment_us: when that version was made: its `Last-Modified`
    """

    status: int
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    version: int | None = None
    moment_us: int | None = None
