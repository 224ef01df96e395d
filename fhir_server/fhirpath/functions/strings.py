"""Strings.

Spec: http://hl7.org/fhirpath/N1/#string-manipulation
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable

from fhir_server.fhirpath import patterns
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import EMPTY, MAX_TEXT, Fault, Item, Items, boolean, integer, string
from fhir_server.fhirpath.kinds import STRING

_MAX_PARTS = 100_000


def _text(items: Items, name: str) -> str | None:
    """The one string of a collection; None where it is empty."""
    if not items:
        return None
    if len(items) > 1:
        raise Fault(f"{name}() works on a single string, found {len(items)} items")
    item = items[0]
    if item.kind.system is None or item.kind.system in ("Boolean", "Integer", "Decimal", "Quantity"):
        raise Fault(f"{name}() works on a string, found a {item.type}")
    return None if item.value is None else str(item.value)


def _enter(name: str, arguments: int, apply: Callable[..., Items]) -> None:
    """Enter a function of strings; it is empty where its input or an argument is."""

    @collections(name, arguments)
    def call(context: Context, items: Items, *given: Items) -> Items:
        texts = [_text(collection, name) for collection in (items, *given)]
        return EMPTY if None in texts else apply(*texts)


def _replace(text: str, pattern: str, substitution: str) -> Items:
    times = text.count(pattern)
    if len(text) + times * len(substitution) > MAX_TEXT:
        raise Fault(f"a string of more than {MAX_TEXT} characters")
    return string(text.replace(pattern, substitution))


def _strings(texts: list[str]) -> Items:
    if len(texts) > _MAX_PARTS:
        raise Fault(f"a string cut to more than {_MAX_PARTS} parts")
    return [Item(text, STRING) for text in texts]


for _name, _arguments, _apply in (
    ("indexOf", 1, lambda text, part: integer(text.find(part))),
    ("lastIndexOf", 1, lambda text, part: integer(text.rfind(part))),
    ("startsWith", 1, lambda text, part: boolean(text.startswith(part))),
    ("endsWith", 1, lambda text, part: boolean(text.endswith(part))),
    ("contains", 1, lambda text, part: boolean(part in text)),
    ("upper", 0, lambda text: string(text.upper())),
    ("lower", 0, lambda text: string(text.lower())),
    ("replace", 2, _replace),
    ("length", 0, lambda text: integer(len(text))),
    ("toChars", 0, lambda text: _strings(list(text))),
    ("trim", 0, lambda text: string(text.strip())),
    ("split", 1, lambda text, separator: _strings(text.split(separator) if separator else list(text))),
    ("matches", 1, lambda text, pattern: boolean(patterns.found(pattern, text))),
    ("matchesFull", 1, lambda text, pattern: boolean(patterns.matches_whole(pattern, text))),
    ("replaceMatches", 2, lambda text, pattern, to: string(patterns.replaced(pattern, text, to))),
):
    _enter(_name, _arguments, _apply)


@collections("substring", 1, 2)
def substring(context: Context, items: Items, start: Items, length: Items | None = None) -> Items:
    text = _text(items, "substring")
    if text is None or not start:
        return EMPTY
    at = _number(start)
    if not 0 <= at < len(text):
        return EMPTY
    if not length:
        return string(text[at:])
    return string(text[at : at + max(_number(length), 0)])


def _number(items: Items) -> int:
    if len(items) > 1 or items[0].kind.system != "Integer":
        raise Fault("substring() takes integers")
    return int(items[0].value)


@collections("join", 0, 1)
def join(context: Context, items: Items, separator: Items = EMPTY) -> Items:
    texts = [text for item in items if (text := _text([item], "join")) is not None]
    between = _text(separator, "join") or ""
    if sum(map(len, texts)) + len(between) * len(texts) > MAX_TEXT:
        raise Fault(f"a string of more than {MAX_TEXT} characters")
    return string(between.join(texts)) if items else EMPTY


Code = Callable[[str], str]


def _hex(text: str) -> str:
    return text.encode().hex()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


_ENCODE: dict[str, Code] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "urlbase64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": _hex,
}
_DECODE: dict[str, Code] = {
    "base64": lambda text: base64.b64decode(text, validate=True).decode(),
    "urlbase64": lambda text: base64.urlsafe_b64decode(text).decode(),
    "hex": lambda text: bytes.fromhex(text).decode(),
}
_ESCAPE: dict[str, Code] = {"html": html.escape, "json": _quoted}


_JSON_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)


def _unquoted(text: str) -> str:
    """Escapes are resolved, a quote that stands alone is let stand."""
    return _JSON_ESCAPE.sub(lambda found: str(json.loads(f'"{found.group()}"')), text)


_UNESCAPE: dict[str, Code] = {"html": html.unescape, "json": _unquoted}


def _coded(codes: dict[str, Code], name: str) -> Callable[[str, str], Items]:
    def apply(text: str, code: str) -> Items:
        if code not in codes:
            raise Fault(f"{name}() knows {', '.join(codes)}; found {code[:40]!r}")
        try:
            return string(codes[code](text))
        except (ValueError, binascii.Error):  # the text is not of that encoding
            return EMPTY

    return apply


for _name, _codes in (("encode", _ENCODE), ("decode", _DECODE), ("escape", _ESCAPE), ("unescape", _UNESCAPE)):
    _enter(_name, 1, _coded(_codes, _name))
