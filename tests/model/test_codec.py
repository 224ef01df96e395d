"""Resources as JSON, exactly."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.codec import MAX_DEPTH, SpelledDecimal, decode, encode, pretty, structural_quotes
from fhir_server.model.errors import InvalidError

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,20}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | text
documents = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=30)


@given(numbers)
def test_a_number_is_written_as_it_was_read(number: str) -> None:
    assert encode(decode(number.encode())) == number.encode()


@given(numbers)
def test_a_number_is_exactly_its_decimal(number: str) -> None:
    value = decode(number.encode())
    assert isinstance(value, Decimal)
    assert value == Decimal(number)


@given(documents)
def test_any_document_comes_back_equal_and_in_order(document: Any) -> None:
    for spelling in (json.dumps(document).encode(), json.dumps(document, ensure_ascii=False, indent=1).encode()):
        read = decode(spelling)
        assert read == document
        assert json.dumps(decode(encode(read))) == json.dumps(document)
        assert decode(pretty(encode(read))) == document


@given(st.lists(st.tuples(text, leaves), min_size=1, max_size=6), st.data())
def test_a_doubled_member_is_always_found(members: list[tuple[str, Any]], data: st.DataObject) -> None:
    unique = dict(members)
    again = data.draw(st.sampled_from(sorted(unique)))
    parts = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in [*unique.items(), (again, unique[again])]]
    with pytest.raises(InvalidError, match="twice"):
        decode(("[{" + ",".join(parts) + "}]").encode())


@given(documents)
def test_quotes_of_strings_are_counted_whatever_the_escapes(document: Any) -> None:
    assert structural_quotes(json.dumps(document).encode()) == structural_quotes(encode(document))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"", "empty"),
        (b"{} {}", "trailing"),
        (b"[1,]", "trailing comma"),
        (b"NaN", "invalid"),
        (b"-Infinity", "JSON"),
        (b"01", "invalid number"),
        (b'"\xff"', "UTF-8"),
        (b'"\\udc00"', "surrogate"),
        (b'"\\ud800x"', "surrogate|truncated|invalid"),
        (b'{"a":{"b":1,"b":1}}', "'b' stands twice"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "nested deeper"),
    ],
)
def test_what_fhir_cannot_mean_is_refused_with_the_reason(body: bytes, word: str) -> None:
    with pytest.raises(InvalidError, match=word):
        decode(body)


def test_the_deepest_document_that_is_allowed_is_read() -> None:
    assert decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_an_integer_of_any_size_stays_exact() -> None:
    digits = b"1" * 40
    assert encode(decode(digits)) == digits


def test_only_odd_spellings_need_a_type_of_their_own() -> None:
    assert type(decode(b"1.10")) is Decimal
    assert type(decode(b"1e3")) is SpelledDecimal
