"""Expressions become trees by FHIRPath's precedence; what is none is refused with its place."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.nodes import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Measured,
    Member,
    Moment,
    This,
    TypeOperation,
    Unary,
)
from fhir_server.fhirpath.parser import parsed
from fhir_server.model.errors import InvalidError


def name(text: str) -> Member:
    return Member(None, text)


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        ("a.b.c", Member(Member(name("a"), "b"), "c")),
        ("a | b | c", Binary("|", Binary("|", name("a"), name("b")), name("c"))),
        ("a and b or c", Binary("or", Binary("and", name("a"), name("b")), name("c"))),
        ("a or b and c", Binary("or", name("a"), Binary("and", name("b"), name("c")))),
        ("a = b | c", Binary("=", name("a"), Binary("|", name("b"), name("c")))),
        ("1 + 2 * 3", Binary("+", Literal(1), Binary("*", Literal(2), Literal(3)))),
        ("(1 + 2) * 3", Binary("*", Binary("+", Literal(1), Literal(2)), Literal(3))),
        ("-a.b + 1", Binary("+", Unary("-", Member(name("a"), "b")), Literal(1))),
        ("(a.b as Quantity).c", Member(TypeOperation("as", Member(name("a"), "b"), "Quantity"), "c")),
        ("a.as(Quantity)", TypeOperation("as", name("a"), "Quantity")),
        ("a.ofType(FHIR.Quantity)", TypeOperation("ofType", name("a"), "Quantity")),
        ("a is System.String", TypeOperation("is", name("a"), "System.String")),
        ("a[0].b", Member(Index(name("a"), Literal(0)), "b")),
        ("a.where($this = 'x')", Call(name("a"), "where", (Binary("=", This("$this"), Literal("x")),))),
        ("iif(a, b, {})", Call(None, "iif", (name("a"), name("b"), Literal(None)))),
        ("%resource.a", Member(External("resource"), "a")),
        ("%`vs-x`.a", Member(External("vs-x"), "a")),
        ("%vs-x", External("vs-x")),
        ("%a-1", Binary("-", External("a"), Literal(1))),
        ("10 'mg'", Measured(10, "mg", False)),
        ("1.5 days", Measured(Decimal("1.5"), "days", True)),
        ("as(Quantity)", TypeOperation("as", This("$this"), "Quantity")),
        ("text.`div`", Member(name("text"), "div")),
        (r"'it\'s \u00e9\n'", Literal("it's é\n")),
        ("1.50", Literal(Decimal("1.50"))),
        ("@2015-02-04T14:34:28Z", Moment("2015-02-04T14:34:28Z")),
        ("@T14:30", Moment("T14:30")),
        ("true and false", Binary("and", Literal(True), Literal(False))),
        ("a /* why */ . b // end", Member(name("a"), "b")),
        ("a.is.as", Member(Member(name("a"), "is"), "as")),
    ],
)
def test_an_expression_becomes_the_tree_that_the_precedence_asks_for(expression: str, tree: object) -> None:
    assert parsed(expression) == tree


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("", "position 1"),
        ("a.", "position 3"),
        ("a b", "position 3"),
        ("a.where(b", "position 10"),
        ("a[0", "position 4"),
        ("a = ", "position 5"),
        ("a.'b'", "position 3"),
        ("a # b", "position 3"),
        ("'open", "position 1"),
        ("(" * 500, "no deeper nesting"),
        ("a" + ".a" * 500, "250 links"),
        ("a" + "|a" * 500, "250 links"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_place(expression: str, place: str) -> None:
    with pytest.raises(InvalidError, match=place) as refused:
        parsed(expression)
    assert refused.value.issues[0].key == "HS-FHIRPATH-SYNTAX"


@given(st.text(alphabet="ab.()[]|='`%$@ 019-", max_size=20))
def test_any_text_is_parsed_or_refused(expression: str) -> None:
    with suppress(InvalidError):
        parsed(expression)
