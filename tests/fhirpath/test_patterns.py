"""Regular expressions in bounded time."""

from __future__ import annotations

import re
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath import automaton, patterns, regular
from fhir_server.fhirpath.items import Fault

PIECES = ["a", "b", ".", "(", "|", ")", "*", "+", "?", "{1,2}", "{2}", "[ab]", "[^a]", "^", "$", "(?:", r"\w", r"\."]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a+)+b", "a" * 5000),
        (r"^(a|a)*$", "a" * 5000 + "b"),
        (r"(.*)*x", "y" * 5000),
        (r"(x+x+)+y", "x" * 5000),
        (r".*.*.*.*z", "a" * 5000),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 5000),
        (r"(a?){25}a{25}b", "a" * 25),
    ],
)
def test_a_pattern_that_makes_others_hang_is_answered_at_once(pattern: str, text: str) -> None:
    start = time.perf_counter()
    assert patterns.found(pattern, text) is False
    assert patterns.matches_whole(pattern, text) is False
    assert time.perf_counter() - start < 2


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join), st.text("ab.", max_size=6))
def test_the_automaton_agrees_with_the_matcher_of_python(pattern: str, text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(pattern, re.DOTALL)
        tree = regular.parsed(pattern)
    except (re.error, regular.Irregular):
        return
    try:
        program = automaton.program(tree)
    except Fault:
        return
    assert automaton.matches(program, text, whole=True) is (compiled.fullmatch(text) is not None)
    assert automaton.matches(program, text, whole=False) is (compiled.search(text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "reason"),
    [
        ("(", "a", "no regular expression"),
        ("a" * 2001, "a", "2000 characters"),
        (r"(a+)+\1", "aaa", "could take too long"),
        (r"(?=(a+)+)b", "aaa", "could take too long"),
        (r"\b(a+)+\b", "aaa", "could take too long"),
        (r"a++b", "aaa", "possessive"),
        ("((a{1,100}){1,100}){1,100}", "a" * 200, "more than 4000 states"),
    ],
)
def test_what_cannot_be_matched_in_time_is_refused_with_the_reason(pattern: str, text: str, reason: str) -> None:
    with pytest.raises(Fault, match=reason):
        patterns.found(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "substitution", "expected"),
    [
        (r"(\d+)-(\d+)", "10-20", "$2-$1", "20-10"),
        (r"(?<day>\d+)\.", "3.", "${day}/", "3/"),
        (r"a", r"a\b", r"\1", r"\1\b"),
        ("", "abc", "x", "abc"),
    ],
)
def test_matches_are_replaced_with_their_groups(pattern: str, text: str, substitution: str, expected: str) -> None:
    assert patterns.replaced(pattern, text, substitution) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\bcat\b", "a cat sat", True),
        (r"\bcat\b", "concatenate", False),
        (r"(?i)CAT", "a cat", True),
        (r"(?i:C)at", "a cat", True),
        (r"(a|b)c\1", "bcb", True),
        (r"(a|b)c\1", "bca", False),
        (r"a(?=b)", "ab", True),
        (r"(?<!a)b", "ab", False),
    ],
)
def test_what_looks_around_or_back_is_matched_where_it_costs_little(pattern: str, text: str, expected: bool) -> None:
    assert patterns.found(pattern, text) is expected


def test_a_substitution_that_names_no_group_is_refused() -> None:
    with pytest.raises(Fault, match="does not fit"):
        patterns.replaced("a", "a", "$3")


def test_a_costly_replacement_is_refused() -> None:
    with pytest.raises(Fault, match="could take too long"):
        patterns.replaced("(a+)+b", "a" * 100, "x")
