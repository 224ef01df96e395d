"""Quantities in canonical units: equal ones are exactly equal, others are kept apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.search.ucum import canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("120", "mg/dL"), ("1.2", "g/L")),
        (("1", "[lb_av]"), ("0.45359237", "kg")),
        (("185", "[lb_av]"), ("83914.58845", "g")),
        (("98.6", "[degF]"), ("37", "Cel")),
        (("-40", "[degF]"), ("-40.0", "Cel")),
        (("310.15", "K"), ("37.0", "Cel")),
        (("70", "[in_i]"), ("177.8", "cm")),
        (("6", "[ft_i]"), ("1.8288", "m")),
        (("760", "mm[Hg]"), ("0.76", "m[Hg]")),
        (("60", "/min"), ("1", "/s")),
        (("60", "{beats}/min"), ("1", "Hz")),
        (("5", "%"), ("0.05", "1")),
        (("5.5", "mmol/L"), ("5.5", "umol/mL")),
        (("4.5", "10*3/uL"), ("4.5", "10*9/L")),
        (("4.5", "10^3/uL"), ("4500", "/uL")),
        (("3", "{score}"), ("3", "1")),
        (("5", "[IU]/L"), ("0.005", "[iU]/mL")),
        (("80", "mL/min/{1.73_m2}"), ("4.8", "L/h")),
        (("25", "kg/m2"), ("0.0025", "kg/cm2")),
        (("140", "meq/L"), ("140", "mmol/L")),
        (("30", "U/L"), ("0.03", "U/mL")),
        (("90", "fL"), ("0.09", "pL")),
        (("2", "wk"), ("14", "d")),
        (("10", "dB"), ("1", "B")),
        (("1", "a"), ("365.25", "d")),
    ],
)
def test_equal_quantities_come_out_exactly_equal(one: tuple[str, str], other: tuple[str, str]) -> None:
    first, second = canonical(Decimal(one[0]), one[1]), canonical(Decimal(other[0]), other[1])
    assert first is not None
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [("mol", "1"), ("[iU]", "1"), ("[iU]", "[arb'U]"), ("[CFU]", "[PFU]"), ("[pH]", "1"), ("g/L", "mol/L"), ("m", "M")],
)
def test_what_cannot_be_compared_has_different_units(one: str, other: str) -> None:
    first, second = canonical(Decimal(1), one), canonical(Decimal(1), other)
    assert (first and first[1]) != (second and second[1])


@pytest.mark.parametrize(
    "code",
    [
        *("", "bogus", "mEq/L", "MG/DL", "é", "mm Hg", "lbs", "10*999999", "m61", "Cel/m", "Cel2", "/[degF]", "{"),
        *("(m", "m)", "m//s", ".", "/", "-1", "0", "x" * 10_000, "m." * 60 + "m", "\ud800", "\n"),
    ],
)
def test_what_is_no_ucum_unit_gives_none_and_never_raises(code: str) -> None:
    assert canonical(Decimal("1.5"), code) is None


@settings(deadline=None)  # the first call reads UCUM's tables
@given(st.text(alphabet="mgdLl/.*^0123456789()[]{}%'-+HgUkCs", max_size=12))
def test_no_code_raises(code: str) -> None:
    found = canonical(Decimal(1), code)
    assert found is None or isinstance(found[0], Decimal)


@settings(deadline=None)  # the first call reads UCUM's tables
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_value_raises(value: Decimal) -> None:
    assert canonical(value, "mg/dL") is not None


@settings(deadline=None)  # the first call reads UCUM's tables
@given(st.decimals(min_value=-(10**9), max_value=10**9, places=6))
def test_an_answer_is_the_exact_fraction_rounded_once(value: Decimal) -> None:
    found = canonical(value, "[degF]")
    assert found is not None
    exact = (Fraction(value) + Fraction("459.67")) * Fraction(5, 9)
    assert abs(Fraction(found[0]) - exact) <= abs(exact) * Fraction(1, 10**27)


def test_every_unit_of_the_ucum_table_is_understood() -> None:
    from ucumvert.xml_util import get_units  # noqa: PLC0415

    assert [code for code in get_units() if canonical(Decimal(1), code) is None] == []


def test_threads_that_meet_new_units_at_once_agree() -> None:
    codes = [f"{prefix}{unit}" for prefix in ("m", "u", "n", "k") for unit in ("g", "mol", "L", "Pa", "[iU]")]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda code: canonical(Decimal(3), code), codes * 8))
    assert found == [canonical(Decimal(3), code) for code in codes * 8]
