"""Formats and ranges of the primitive types."""

import base64
import time
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.validation.primitives import CHECKS
from profiles.registry import registry

RIGHT: dict[str, list[Any]] = {
    "boolean": [True, False],
    "string": ["a", " a ", "é", "a\tb\r\nc", "\u00a0x", "😀", "x" * 1_048_576],
    "markdown": ["# a\n\n* b"],
    "code": ["a", "a b", "a-b", "text/plain"],
    "uri": ["http://example.org/é", "urn:oid:1.2", "a", "#x", "http:goodhealth.org"],
    "canonical": ["http://example.org/x|1.0#y"],
    "id": ["a", "A-1.b", "x" * 64],
    "oid": ["urn:oid:1.2.36.1.2001", "urn:oid:2.0"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "integer": [0, -1, 2**31 - 1, -(2**31)],
    "unsignedInt": [0, 2**31 - 1],
    "positiveInt": [1, 2**31 - 1],
    "decimal": [0, -1, Decimal("1.10"), Decimal("66.899999999999991"), Decimal("1E-22"), Decimal("1.000E+245"), 10**40],
    "date": ["2024", "2024-02", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": [
        "2024",
        "2024-02-29",
        "2024-02-29T23:59:59Z",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00.123456-14:00",
    ],
    "instant": ["2024-02-29T23:59:59.1+05:30"],
    "time": ["00:00:00", "23:59:59.999"],
    "base64Binary": ["QUJD", "QUI=", "QQ==", "QU JD\r\nQUJD"],
}
WRONG: dict[str, list[Any]] = {
    "boolean": [0, 1, "true", "false", None, [], {}],
    "string": ["", 5, True, None, ["a"], {"a": 1}, "\x00", "\x1b[0m", "\x0c", "\ud800", "x" * 1_048_577],
    "markdown": ["", "\x07"],
    "code": ["", " a", "a ", "a  b", "a\n", "\t", " ", "a\x00", 7],
    "uri": ["", " ", "a b", "a\n", "a\tb", "http://\x00", 1],
    "canonical": ["a b|1"],
    "id": ["", "x" * 65, "a_b", "a/b", "é", "a\n", 1],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02", "urn:oid:1", "urn:oid:1.2\n"],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "urn:uuid:1"],
    "integer": [2**31, -(2**31) - 1, Decimal("1.0"), "1", True, 1.0, 10**5000],
    "unsignedInt": [-1, 2**31, False],
    "positiveInt": [0, -1, 2**31],
    "decimal": ["1", True, 1.5, Decimal("NaN"), Decimal("Infinity"), Decimal("1E+401"), Decimal("1E-99999"), 10**5000],
    "date": [
        "",
        "24",
        "2024-00",
        "2024-13",
        "2024-02-30",
        "2023-02-29",
        "1900-02-29",
        "2024-04-31",
        "0000",
        "2024-2-1",
        "2024-01-01T00:00:00Z",
        "2024-01-01\n",
        "\uff12024",
        2024,
    ],
    "dateTime": [
        "2024-02-30T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T10:00:00",
        "2024-01-01T10:00Z",
        "2024-01-01 10:00:00Z",
        "2024-01-01T10:00:00+15:00",
        "2024-01-01T10:60:00Z",
        "2024-01T10:00:00Z",
    ],
    "instant": ["2024", "2024-01-01", "2024-01-01T10:00:00", "2024-06-31T10:00:00Z"],
    "time": ["24:00:00", "10:00", "10:00:00Z", "1:00:00", "10:60:00"],
    "base64Binary": [
        "",
        "   ",
        "QUJ",
        "Q===",
        "=QUJ",
        "QUJD!",
        "QUJD-_==",
        "QUJD=",
        "QUJD====",
        "QU=D",
        "QUI=QUJD",
        "é===",
        5,
    ],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    """One case per value, named by type and position (values may be too long for a name)."""
    return [
        pytest.param(name, value, id=f"{name}-{index}")
        for name, values in table.items()
        for index, value in enumerate(values)
    ]


@pytest.mark.parametrize(("name", "value"), cases(RIGHT))
def test_right_values_pass(name: str, value: Any) -> None:
    assert CHECKS[name](value) is None


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_wrong_values_are_refused_once(name: str, value: Any) -> None:
    found = CHECKS[name](value)
    assert found is not None
    assert [fault.severity for fault in found] == ["error"]
    assert found[0].diagnostics.isprintable()
    assert len(found[0].diagnostics) < 400


def test_every_primitive_of_r4_has_a_check() -> None:
    primitives = {name for name, definition in registry().types.items() if definition.kind == "primitive-type"}
    assert primitives - {"xhtml"} == CHECKS.keys()


@given(st.dates())
def test_every_real_date_passes(day: date) -> None:
    assert CHECKS["date"](day.isoformat()) is None
    assert CHECKS["instant"](f"{day.isoformat()}T12:00:00Z") is None


@given(st.integers(1, 9999), st.integers(1, 12), st.integers(1, 31))
def test_a_date_passes_exactly_if_the_calendar_has_it(year: int, month: int, day: int) -> None:
    try:
        date(year, month, day)
    except ValueError:
        exists = False
    else:
        exists = True
    assert (CHECKS["dateTime"](f"{year:04}-{month:02}-{day:02}") is None) is exists


@given(st.binary(min_size=1))
def test_all_that_base64_encodes_passes(data: bytes) -> None:
    assert CHECKS["base64Binary"](base64.b64encode(data).decode()) is None
    assert CHECKS["base64Binary"](base64.encodebytes(data).decode()) is None


@pytest.mark.parametrize(
    "text",
    ["QUJD" * 2_500_000, " " * 5_000_000 + "!", "QUJD " * 2_000_000, "=" * 10_000_000],
    ids=["whole", "white space", "words", "padding"],
)
def test_ten_million_characters_of_base64_take_less_than_a_second(text: str) -> None:
    start = time.process_time()
    CHECKS["base64Binary"](text)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("name", ["code", "oid", "dateTime", "uri", "string", "id"])
def test_no_check_backtracks_on_hostile_text(name: str) -> None:
    start = time.process_time()
    for text in ("a " * 500_000 + " ", "urn:oid:1" + ".1" * 500_000 + "x", "2024-01-01T00:00:00." + "1" * 1_000_000):
        CHECKS[name](text)
    assert time.process_time() - start < 1
