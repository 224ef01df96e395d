"""Cut an expression into tokens.

Spec: http://hl7.org/fhirpath/N1/#lexical-elements
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fhir_server.model.errors import InvalidError


class Token(NamedTuple):
    """`kind` is a group of the table below; `text` has quotes and escapes resolved; `at` counts characters from 0."""

    kind: str
    text: str
    at: int


_TABLE = re.compile(
    r"""(?P<blank>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<moment>@(?:T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?
                   |\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)?(?:Z|[+-]\d\d:\d\d)?)?))
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<quoted>`(?:[^`\\]|\\.)*`)
      | (?P<external>%(?:(?:vs|ext)-[\w-]+|[A-Za-z_]\w*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`))
      | (?P<this>\$[a-z]+)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<symbol><=|>=|!=|!~|[-.\[\](){},|&+*/<>=~])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def tokens_of(expression: str) -> list[Token]:
    """All tokens but white space and comments, ended by one of kind `end`.

    Raises:
        InvalidError: 400; a character that starts no token.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(expression):
        found = _TABLE.match(expression, at)
        if found is None:
            raise InvalidError(
                f"The FHIRPath expression has {expression[at]!r} at position {at + 1}, where no token can start: "
                f"{expression[:200]}",
                key="HS-FHIRPATH-SYNTAX",
            )
        kind = str(found.lastgroup)
        if kind != "blank":
            tokens.append(Token(kind, _text_of(kind, found.group()), at))
        at = found.end()
    tokens.append(Token("end", "", at))
    return tokens


def _text_of(kind: str, text: str) -> str:
    if kind in ("string", "quoted"):
        return _unescaped(text[1:-1])
    if kind == "external":
        return _unescaped(text[2:-1]) if text[1] in "'`" else text[1:]
    return text[1:] if kind == "moment" else text


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text)
