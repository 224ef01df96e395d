"""Text and codes made comparable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.normalize import fold, normalized


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("  Müller-LÜDENSCHEIDT ", "muller-ludenscheidt"),
        ("José\u00a0\t María", "jose maria"),
        ("Weiß", "weiss"),
        ("ﬁancé", "fiance"),
        ("İstanbul", "istanbul"),
        ("O'Neil", "o'neil"),
        ("山田", "山田"),
        ("   ", ""),
    ],
)
def test_case_accents_and_white_space_do_not_count(written: str, compared: str) -> None:
    assert normalized(written) == compared


@given(st.text())
def test_normalizing_twice_changes_nothing_more(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_plain_ascii_takes_no_other_way_than_the_rest(text: str) -> None:
    assert normalized(f"{text}\u0301") == normalized(text)


def test_a_folded_code_keeps_its_white_space_and_accents() -> None:
    assert fold("ACTIVE É") == "active é"
