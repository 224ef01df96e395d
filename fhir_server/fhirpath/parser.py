"""Parse an expression by operator precedence (Pratt).

Spec: http://hl7.org/fhirpath/N1/#operator-precedence
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from fhir_server.fhirpath.lexer import Token, tokens_of
from fhir_server.fhirpath.nodes import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Measured,
    Member,
    Moment,
    Node,
    This,
    TypeOperation,
    Unary,
)
from fhir_server.model.errors import InvalidError

#: How strongly an operator binds what stands to its left and right; all of them group to the left.
_BINDING = {
    **dict.fromkeys(("*", "/", "div", "mod"), 10),
    **dict.fromkeys(("+", "-", "&"), 9),
    **dict.fromkeys(("is", "as"), 8),
    "|": 7,
    **dict.fromkeys(("<", ">", "<=", ">="), 6),
    **dict.fromkeys(("=", "~", "!=", "!~"), 5),
    **dict.fromkeys(("in", "contains"), 4),
    "and": 3,
    **dict.fromkeys(("or", "xor"), 2),
    "implies": 1,
}
_UNARY_BINDING = 11
_TYPE_FUNCTIONS = frozenset(("is", "as", "ofType"))
_CALENDAR_UNITS = frozenset(
    f"{word}{plural}"
    for word in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
)
#: What is evaluated by recursion must not exhaust the stack: brackets within brackets, and links of one chain.
_MAX_DEPTH = 100
_MAX_LINKS = 250
_MAX_DIGITS = 100


@lru_cache(maxsize=4096)
def parsed(expression: str) -> Node:
    """The tree of an expression.

    Raises:
        InvalidError: 400; the text is no FHIRPath; the message names the place.
    """
    parser = _Parser(expression)
    node = parser.expression(0)
    parser.expect_end()
    return node


class _Parser:
    def __init__(self, expression: str) -> None:
        self._source = expression
        self._tokens = tokens_of(expression)
        self._next = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _advance(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _at(self, symbol: str) -> bool:
        return self._token.kind == "symbol" and self._token.text == symbol

    def _expect(self, symbol: str) -> None:
        if not self._at(symbol):
            raise self._unexpected(f"{symbol!r}")
        self._next += 1

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end")

    def _unexpected(self, expected: str) -> InvalidError:
        token = self._token
        found = repr(token.text) if token.kind != "end" else "the end"
        return InvalidError(
            f"The FHIRPath expression has {found} at position {token.at + 1}, where {expected} was expected: "
            f"{self._source[:200]}",
            key="HS-FHIRPATH-SYNTAX",
        )

    def expression(self, binding: int) -> Node:
        """An expression whose operators all bind stronger than `binding`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._unexpected(f"no deeper nesting than {_MAX_DEPTH} levels")
        left = self._operand()
        links = 0
        while (power := self._power()) > binding:
            links = self._linked(links)
            _, operator, at = self._advance()
            if operator in ("is", "as"):
                left = TypeOperation(operator, left, self._type_name(), at)
            else:
                left = Binary(operator, left, self.expression(power), at)
        self._depth -= 1
        return left

    def _linked(self, links: int) -> int:
        if links == _MAX_LINKS:
            raise self._unexpected(f"the end of a chain, which has {_MAX_LINKS} links at most,")
        return links + 1

    def _power(self) -> int:
        token = self._token
        return _BINDING.get(token.text, 0) if token.kind in ("symbol", "name") else 0

    def _operand(self) -> Node:
        if self._token.kind == "symbol" and self._token.text in "+-":
            _, operator, at = self._advance()
            return Unary(operator, self.expression(_UNARY_BINDING), at)
        node = self._term()
        links = 0
        while True:
            links = self._linked(links)
            if self._at("."):
                self._advance()
                node = self._invocation(node)
            elif self._at("["):
                at = self._advance().at
                node = Index(node, self.expression(0), at)
                self._expect("]")
            else:
                return node

    def _term(self) -> Node:
        kind, text, at = self._token
        if kind in ("name", "quoted") and not (kind == "name" and text in ("true", "false")):
            return self._invocation(None)
        if kind == "symbol" and text == "(":
            self._advance()
            node = self.expression(0)
            self._expect(")")
            return node
        if kind == "symbol" and text == "{":
            self._advance()
            self._expect("}")
            return Literal(None)
        if kind == "number" and len(text) > _MAX_DIGITS:
            raise self._unexpected(f"a number of at most {_MAX_DIGITS} digits")
        constant = _constant_of(kind, text, at)
        if constant is None:
            raise self._unexpected("a name, a literal or '('")
        self._advance()
        if kind == "number" and self._at_unit():
            is_calendar = self._token.kind == "name"
            return Measured(_number_of(text), self._advance().text, is_calendar)
        return constant

    def _at_unit(self) -> bool:
        kind, text, _ = self._token
        return kind == "string" or (kind == "name" and text in _CALENDAR_UNITS)

    def _invocation(self, source: Node | None) -> Node:
        at = self._token.at
        name = self._name()
        if not self._at("("):
            return Member(source, name, at)
        self._advance()
        if name in _TYPE_FUNCTIONS:
            type_name = self._type_name()
            self._expect(")")
            return TypeOperation(name, source or This("$this"), type_name, at)
        arguments: list[Node] = []
        while not self._at(")"):
            if arguments:
                self._expect(",")
            arguments.append(self.expression(0))
        self._advance()
        return Call(source, name, tuple(arguments), at)

    def _name(self) -> str:
        if self._token.kind not in ("name", "quoted"):
            raise self._unexpected("a name")
        return self._advance().text

    def _type_name(self) -> str:
        """`Patient`, `FHIR.Patient` or `System.String`; the namespace `FHIR` is dropped, it is the default."""
        name = self._name()
        if not self._at("."):
            return name
        self._advance()
        local = self._name()
        return local if name == "FHIR" else f"{name}.{local}"


def _number_of(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


def _constant_of(kind: str, text: str, at: int) -> Node | None:
    match kind:
        case "string":
            return Literal(text)
        case "number":
            return Literal(_number_of(text))
        case "name":
            return Literal(text == "true")
        case "moment":
            return Moment(text)
        case "this":
            return This(text)
        case "external":
            return External(text, at)
    return None
