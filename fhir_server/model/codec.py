"""Resources as JSON, exactly: what a client wrote is what every reader gets.

No float ever touches a resource: a decimal keeps its digits (`1.10`, `66.899999999999991`, `1E3`), an object its
order, an unknown member its place. What JSON allows and FHIR cannot mean (two members of one name, NaN, a lone
surrogate, a document nested beyond reason) is refused with the place and the reason.

Spec: https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/datatypes.html#decimal
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from fhir_server.model.errors import InvalidError

Json = dict[str, Any]
T = TypeVar("T")

#: Deeper than any real resource (Questionnaires reach 20), shallower than Python's own stack.
MAX_DEPTH = 100

BOM = b"\xef\xbb\xbf"


class SpelledDecimal(Decimal):
    """A decimal whose text Python would spell in another way (`1e3`, `0.00000001`)."""

    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        return self.text


def decimal_of(text: str) -> Decimal:
    """The exact decimal of a JSON number; it is encoded again as it was written."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise InvalidError(
            f"The number {text[:40]} is outside what can be represented.", code="value", key="HS-JSON-NUMBER"
        ) from None
    if str(value) == text:
        return value
    spelled = SpelledDecimal(text)
    spelled.text = text
    return spelled


def _encode_hook(value: Any) -> Any:
    if isinstance(value, SpelledDecimal):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is no JSON value")


_decoder = msgspec.json.Decoder(float_hook=decimal_of)
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_hook)

encode = _encoder.encode


def decode(data: bytes) -> Any:
    """Parse one JSON document.

    Raises:
        InvalidError: 400 with code `structure`: not JSON, or JSON that FHIR does not allow; the message tells where.
    """
    document = _parsed(data, _decoder)
    if structural_quotes(data) != structural_quotes(encode(document)):
        _refuse_duplicate_member(data)
    return document


def decode_as(data: bytes, shape: type[T]) -> T:
    """Parse into a msgspec struct; `msgspec.Raw` members stay bytes, to be decoded one by one.

    Members doubled inside the `Raw` parts are found when those are decoded.
    """
    document = _parsed(data, msgspec.json.Decoder(shape, float_hook=decimal_of))
    if structural_quotes(data) != structural_quotes(encode(document)):
        _refuse_duplicate_member(data)
    return document


def _parsed(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    if data.startswith(BOM):
        raise InvalidError(
            "The body starts with a byte order mark; JSON is sent as UTF-8 without one (RFC 8259 section 8.1).",
            code="structure",
            key="HS-JSON-BOM",
        )
    if not data.strip():
        raise InvalidError("The body is empty; a JSON document was expected.", code="structure", key="HS-JSON-EMPTY")
    try:
        document = decoder.decode(data)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"The body is not UTF-8: {error.reason} (byte {error.start}).", code="structure", key="HS-JSON-UTF8"
        ) from None
    except msgspec.ValidationError as error:
        raise InvalidError(f"The document has another shape: {error}.", code="structure", key="HS-JSON-SHAPE") from None
    except msgspec.DecodeError as error:
        raise InvalidError(f"The body is not valid JSON: {error}.", code="structure", key="HS-JSON-SYNTAX") from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _refuse_deep(document)
    return document


def _too_deep() -> InvalidError:
    return InvalidError(
        f"The document is nested deeper than {MAX_DEPTH} levels.", code="too-costly", key="HS-JSON-DEPTH"
    )


def _refuse_deep(document: Any) -> None:
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = (
            [
                child
                for node in level
                for child in (node.values() if type(node) is dict else node)
                if type(child) is dict or type(child) is list
            ]
            if type(level[0]) in (dict, list)
            else []
        )


def structural_quotes(data: bytes) -> int:
    """Count the quotes that open or close a string.

    Decoding keeps one of two members of the same name, so a document in which a name is doubled comes back from
    decoding and encoding with fewer strings. Comparing two counts costs a scan; a parser that looks at every name
    costs three parses.
    """
    if b"\\" in data:
        data = data.replace(b"\\\\", b"")
        return data.count(b'"') - data.count(b'\\"')
    return data.count(b'"')


def _refuse_duplicate_member(data: bytes) -> None:
    def members(pairs: list[tuple[str, Any]]) -> Json:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise InvalidError(
                    f"The member {name!r} stands twice in one object; FHIR allows each name once.",
                    code="structure",
                    key="HS-JSON-DUPLICATE",
                )
            names.add(name)
        return dict(pairs)

    json.loads(data, object_pairs_hook=members, parse_float=Decimal)


def pretty(data: bytes) -> bytes:
    """The same document, indented by two spaces."""
    return msgspec.json.format(data, indent=2)


def walk(node: Any, path: str = "") -> Iterator[tuple[Json, str]]:
    """Yield every object of a document with its path (`entry[0].resource`)."""
    if type(node) is dict:
        yield node, path
        for name, child in node.items():
            if type(child) is dict or type(child) is list:
                yield from walk(child, f"{path}.{name}" if path else name)
    elif type(node) is list:
        for index, child in enumerate(node):
            yield from walk(child, f"{path}[{index}]")
