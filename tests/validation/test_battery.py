"""A battery of single faults: each row of `battery/faults.txt` makes the one issue that is declared for it, no other.

The examples are valid; a mutator puts one fault into a copy. Severity, code, key, FHIRPath, and the invariant's
canonical and key must all be as declared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.model.codec import Json, decode
from fhir_server.validation import Validator
from tests.validation.battery.mutators import MUTATORS, Expected, Row, rows

ROWS = list(rows())
EXAMPLES: dict[str, Json] = decode((Path(__file__).parent / "battery" / "examples.json").read_bytes())


def test_the_battery_is_wide() -> None:
    assert len(ROWS) >= 450
    assert len({row.type for row in ROWS}) >= 30
    assert len({row.expected.rule for row in ROWS if row.expected.rule}) >= 60
    assert {row.mutator for row in ROWS} >= set(MUTATORS)


def test_no_fault_stands_in_the_battery_twice() -> None:
    places = [(row.type, row.mutator, row.place, row.argument) for row in ROWS]
    assert sorted({place for place in places if places.count(place) > 1}) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_valid(validator: Validator, name: str) -> None:
    assert validator.issues_of(EXAMPLES[name]) == []


@pytest.mark.parametrize("row", [pytest.param(r, id=f"{r.type}-{r.mutator}-{r.place}-line-{r.line}") for r in ROWS])
def test_a_fault_makes_the_one_issue_that_is_declared_for_it(validator: Validator, row: Row) -> None:
    issues = validator.issues_of(row.applied_to(EXAMPLES[row.type]))
    found = [Expected(i.severity, i.code, i.key or "", i.expression or "", i.rule) for i in issues]
    assert found == [row.expected], issues
