"""Rules look at what is not validated yet: whatever it is, they leave it to the validation to refuse it."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import NOBODY
from fhir_server.repository.rules import Write
from resources.verification.states import application_rule, claim_rule, practitioner_rule

Json = dict[str, Any]

ODD: list[Any] = [None, 1, "x", [], {}, [1], ["x"], [None], [{}], {"tag": 1}, {"coding": 1}, [{"coding": [1]}]]
RULES = {
    "Practitioner": (practitioner_rule, ("meta", "active", "qualification", "name")),
    "Task": (application_rule, ("code", "status")),
    "VerificationResult": (claim_rule, ("validationProcess", "status")),
}
QUALIFICATION: list[Json] = [
    {"identifier": [{"value": "1"}], name: odd} for name in ("code", "period", "identifier") for odd in ODD
] + [{"identifier": [{"value": "1"}], "period": {"end": odd}} for odd in ODD]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("kind", RULES)
def test_what_is_no_fhir_passes_the_rules(kind: str, odd: Any) -> None:
    rule, elements = RULES[kind]
    for element in elements:
        new = {"resourceType": kind, element: odd}
        assert rule(Write(kind, "1", None, new, NOBODY)) is not None


@pytest.mark.parametrize("row", QUALIFICATION, ids=repr)
def test_so_do_qualifications_of_any_shape(row: Json) -> None:
    new = {"resourceType": "Practitioner", "qualification": [row, 1, None]}
    assert practitioner_rule(Write("Practitioner", "1", None, new, NOBODY)) is not None


def test_what_a_rule_completes_it_completes_once() -> None:
    new = {"resourceType": "Practitioner", "active": False}
    once = practitioner_rule(Write("Practitioner", "1", None, new, NOBODY))
    assert once is not None
    assert once != new
    assert practitioner_rule(Write("Practitioner", "1", None, once, NOBODY)) is once
