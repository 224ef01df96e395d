"""What a query says, what it may not say, and what is told about it.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.clock import now_us
from fhir_server.model.errors import InvalidError
from fhir_server.search.compile import filter_of
from fhir_server.search.parse import link_pairs, parse
from fhir_server.search.query import Comparison, DateValue, NumberValue, ReferenceValue, Search, TextValue, TokenValue
from profiles.registry import registry
from profiles.terminology import terminology

BASE = "https://our.example/fhir/"


def read(resource_type: str, *pairs: tuple[str, str], strict: bool = False) -> Search:
    return parse(resource_type, pairs, registry(), strict=strict, default_count=20, max_count=100, base_url=BASE)


def values(resource_type: str, name: str, text: str) -> tuple[Any, ...]:
    (predicate,) = read(resource_type, (name, text)).predicates
    assert isinstance(predicate, Comparison)
    return predicate.values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", [TokenValue(None, "a")]),
        ("s|a", [TokenValue("s", "a")]),
        ("|a", [TokenValue("", "a")]),
        ("s|", [TokenValue("s", None)]),
        ("a,s|b", [TokenValue(None, "a"), TokenValue("s", "b")]),
        ("a\\,b", [TokenValue(None, "a,b")]),
        ("s|a\\|b", [TokenValue("s", "a|b")]),
        ("a\\$b\\\\", [TokenValue(None, "a$b\\")]),
        ("a\\x", [TokenValue(None, "a\\x")]),
        (",a,,", [TokenValue(None, "a")]),
    ],
)
def test_tokens_are_parted_at_bars_and_commas_that_are_not_escaped(text: str, expected: list[TokenValue]) -> None:
    assert list(values("Observation", "code", text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "entries"),
    [
        ("subject", "Patient/1", ("Patient/1",)),
        ("subject", "Patient/1/_history/3", ("Patient/1",)),
        ("subject", f"{BASE}Patient/1", ("Patient/1",)),
        ("subject", "https://other.example/fhir/Patient/1", ("https://other.example/fhir/Patient/1",)),
        (
            "subject",
            "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
            ("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",),
        ),
        ("subject", "1", ("Group/1", "Device/1", "Patient/1", "Location/1")),
        ("subject:Patient", "1", ("Patient/1",)),
        ("patient", "1", ("Patient/1",)),
    ],
)
def test_references_come_in_every_spelling(name: str, text: str, entries: tuple[str, ...]) -> None:
    assert values("Observation", name, text) == (ReferenceValue(entries),)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("100", "99.5", "100.5"), ("100.00", "99.995", "100.005"), ("1e2", "50", "150"), ("-0.1", "-0.15", "-0.05"),
     ("ap100", "90", "110"), ("ap1", "0.5", "1.5"), ("0", "-0.5", "0.5")],
)  # fmt: skip
def test_a_number_is_as_wide_as_its_digits_say(text: str, low: str, high: str) -> None:
    (value,) = values("RiskAssessment", "probability", text)
    assert isinstance(value, NumberValue)
    assert (value.low, value.high) == (Decimal(low), Decimal(high))


@pytest.mark.parametrize(
    ("resource_type", "name", "text", "expected"),
    [
        ("Patient", "birthdate", "abc", "YYYY"),
        ("Patient", "birthdate", "xx2020", "YYYY"),
        ("Patient", "birthdate", "ge", "YYYY"),
        ("Patient", "birthdate", "2020-02-30", "YYYY"),
        ("Patient", "identifier", "a|b|c", "a bar inside a code is written"),
        ("Patient", "identifier", "|", "system"),
        ("Patient", "active:missing", "yes", "true or false"),
        ("Patient", "general-practitioner", "Foo/1", "no resource type"),
        ("Patient", "general-practitioner", "a b", "Type/id"),
        ("Patient", "general-practitioner:Practitioner", "Organization/1", "a reference to Practitioner"),
        ("Patient", "identifier:of-type", "a|b", "system|code|value"),
        ("Observation", "value-quantity", "5|b", "number|system|code"),
        ("Observation", "value-quantity", "5||", "number|system|code"),
        ("Observation", "value-quantity", "five", "decimal number"),
        ("Observation", "code-value-quantity", "a", "code"),
        ("Observation", "code-value-quantity", "a$", "code"),
        ("Observation", "code:below", "a", "system|code"),
        ("RiskAssessment", "probability", "NaN", "decimal number"),
        ("RiskAssessment", "probability", "1_0", "decimal number"),
        ("RiskAssessment", "probability", "1e9999", "a number"),
        ("RiskAssessment", "probability", "1" * 40, "32 digits"),
        ("Patient", "name", "a\0b", "U+0000"),
        ("Patient", "name", "a\ud800b", "lone surrogates"),
        ("Patient", "name:contains", "a" * 9000, "8000 characters"),
        ("Patient", "_count", "x", "whole number"),
        ("Patient", "_count", "-1", "whole number"),
        ("Patient", "_total", "some", "one of none, estimate, accurate"),
        ("Patient", "_summary", "yes", "one of true"),
    ],
)
def test_a_malformed_value_is_a_400_that_names_parameter_value_and_what_was_expected(
    resource_type: str, name: str, text: str, expected: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        read(resource_type, (name, text))
    (issue,) = caught.value.issues
    assert repr(name) in issue.diagnostics
    assert repr(text)[:40] in issue.diagnostics
    assert expected in issue.diagnostics
    assert issue.expression == f"http.{name}"


@pytest.mark.parametrize(
    ("resource_type", "name"),
    [("Patient", "name:not"), ("Patient", "birthdate:exact"), ("Patient", "gender:exact"), ("Patient", "_id:text"),
     ("Patient", "general-practitioner:Patient"), ("Observation", "subject:above"), ("Patient", "gender:of-type"),
     ("Observation", "value-quantity:not"), ("Patient", "name:"), ("Observation", "code-value-quantity:not")],
)  # fmt: skip
@pytest.mark.parametrize("strict", [True, False])
def test_a_modifier_that_does_not_apply_is_always_refused(resource_type: str, name: str, strict: bool) -> None:
    with pytest.raises(InvalidError) as caught:
        read(resource_type, (name, "a"), strict=strict)
    assert caught.value.issues[0].key == "HS-SEARCH-MODIFIER"


def test_all_faults_of_a_query_are_told_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        read("Patient", ("birthdate", "x"), ("name:not", "y"), ("nmae", "z"), ("_count", "-"), strict=True)
    assert [i.key for i in caught.value.issues] == [
        "HS-SEARCH-DATE", "HS-SEARCH-MODIFIER", "HS-SEARCH-VALUE", "HS-SEARCH-UNKNOWN",
    ]  # fmt: skip


def test_unknown_parameters_are_ignored_with_a_warning_and_left_out_of_the_self_link() -> None:
    search = read(
        "Patient", ("nmae", "x"), ("name", "a"), ("general-practitioner.nmae", "b"), ("_sort", "foo,-birthdate")
    )
    assert [i.severity for i in search.ignored] == ["warning"] * 3
    assert "Did you mean name?" in search.ignored[0].diagnostics
    assert "general-practitioner.nmae" in search.ignored[1].diagnostics
    assert search.applied == (("name", "a"), ("_sort", "-birthdate"))


NOT_THERE = [
    "_has:Observation:patient:nmae", "general-practitioner:Practitioner.nmae", "_text", "_content", "nmae", "age",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_not_there_is_an_error_when_handling_is_strict(name: str) -> None:
    with pytest.raises(InvalidError):
        read("Patient", (name, "x"), strict=True)
    assert len(read("Patient", (name, "x")).ignored) == 1


def test_empty_values_and_silent_parameters_say_nothing() -> None:
    search = read("Patient", ("name", ""), ("name", ","), ("_format", "json"), ("_pretty", "true"), strict=True)
    assert search == Search("Patient", count=20)


def test_the_controls_of_a_search_are_read() -> None:
    pairs = [("_count", "500"), ("_sort", "-birthdate,name"), ("_total", "accurate"), ("_summary", "data"),
             ("_elements", "name, gender"), ("_cursor", "abc")]  # fmt: skip
    search = read("Patient", *pairs)
    assert (search.count, search.total, search.summary, search.cursor) == (100, "accurate", "data", "abc")
    assert search.elements == ("name", "gender")
    assert [(k.parameter.code, k.descending) for k in search.sort] == [("birthdate", True), ("name", False)]
    assert search.applied[0] == ("_count", "100")
    assert link_pairs(search.applied, None) == list(search.applied[:-1])
    assert link_pairs(search.applied, "xyz")[-1] == ("_cursor", "xyz")


def test_two_different_counts_contradict_each_other() -> None:
    with pytest.raises(InvalidError, match="given before"):
        read("Patient", ("_count", "1"), ("_count", "2"))
    assert read("Patient", ("_count", "1"), ("_count", "1")).applied == (("_count", "1"),)


def test_ap_widens_a_date_by_a_tenth_of_its_distance_to_now() -> None:
    (plain,), (wide,) = values("Patient", "birthdate", "1980"), values("Patient", "birthdate", "ap1980")
    assert isinstance(plain, DateValue)
    assert isinstance(wide, DateValue)
    tenth = (now_us() - plain.start_us) / 10
    assert plain.start_us - wide.start_us == wide.end_us - plain.end_us == pytest.approx(tenth, rel=1e-6)


@given(st.decimals(allow_nan=False, allow_infinity=False).map(str), st.sampled_from(["", "ap", "gt", "ne"]))
def test_every_number_that_is_taken_can_be_stored_and_compared(number: str, prefix: str) -> None:
    try:
        (value,) = values("RiskAssessment", "probability", prefix + number)
    except InvalidError:
        return
    assert isinstance(value, NumberValue)
    for bound in (value.value, value.low, value.high):
        assert Decimal128(bound).to_decimal() == bound


def test_the_base_url_counts_with_and_without_its_slash_and_only_whole() -> None:
    for base in ("https://our.example/fhir", "https://our.example/fhir/"):
        for text, entry in [
            ("fhir/Patient/1", "Patient/1"),
            ("fhir2/Patient/1", "https://our.example/fhir2/Patient/1"),
        ]:
            pairs = [("subject", f"https://our.example/{text}")]
            search = parse("Observation", pairs, registry(), strict=True, default_count=1, max_count=1, base_url=base)
            assert isinstance(search.predicates[0], Comparison)
            assert search.predicates[0].values == (ReferenceValue((entry,)),)


def test_a_uri_keeps_its_bars_and_case() -> None:
    assert values("Patient", "_profile", "http://x.org/P|1") == (TextValue("http://x.org/P|1"),)


def test_every_parameter_of_every_type_takes_some_value() -> None:
    sample = {
        "token": "a", "string": "a", "reference": "Patient/1", "date": "ge2020", "number": "1", "quantity": "1||mg",
        "uri": "http://x.org",
    }  # fmt: skip
    count = 0
    for resource_type in registry().resource_types:
        for code, definition in registry().parameters_of(resource_type).items():
            if definition.type == "special" or not definition.expression:
                continue
            parts = [registry().search_parameters[url].type for url, _ in definition.component]
            if "DocumentReference-relationship" in definition.url:
                parts.reverse()
            text = "$".join(sample[p] for p in parts) if parts else sample[definition.type]
            search = read(resource_type, (code, text), strict=True)
            assert filter_of(search, terminology())
            count += 1
    assert count > 2000


NAMES = st.sampled_from([
    "name", "code", "date", "subject", "value-quantity", "combo-code-value-quantity", "_count", "_sort", "_id",
    "_lastUpdated:missing", "identifier:of-type", "x:y", "code:below", "_source:above", "_profile:below", ":", ".",
])  # fmt: skip
TEXTS = st.text(alphabet="aZ0.-+|$,\\ eE:/é\U0010ffff\ud7ff", max_size=12)


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=4))
def test_no_text_makes_the_parser_or_the_compiler_stumble(pairs: list[tuple[str, str]]) -> None:
    with suppress(InvalidError):  # any other error fails the test
        assert isinstance(filter_of(read("Observation", *pairs), terminology()), dict)
