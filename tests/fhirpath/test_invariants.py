"""The invariants of R4 on the clinical examples of R4: all true, but for what is explained here."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.fhirpath.expression import compile_expression
from fhir_server.model.errors import InvalidError
from profiles.registry import registry
from tests.fhirpath.clinical import Asked, asked

#: Expressions that are empty where the element they begin with is absent; the rule is then not broken.
EMPTY = {
    "ref-1": "`reference.startsWith('#').not()` of a reference with an identifier or a display alone",
    "bdl-8": "`fullUrl.contains('/_history/').not()` of an entry without a fullUrl",
    "ras-2": "`probability is decimal` of a prediction without a probability",
}
BLANK_NARRATIVE = "its narrative has nothing but white space; the example breaks the rule"
BROKEN = {
    "que-7": {"Questionnaire-bb": "the rule says `answer is Boolean` where FHIR's `boolean`, another type, is meant"},
    **dict.fromkeys(
        ("txt-1", "txt-2"),
        dict.fromkeys(
            (
                "ActivityDefinition-blood-tubes-supply",
                "ActivityDefinition-heart-valve-replacement",
                "EventDefinition-example",
                "Questionnaire-zika-virus-exposure-assessment",
            ),
            BLANK_NARRATIVE,
        ),
    ),
}


@pytest.fixture(scope="module")
def answers(test_data: Path) -> list[Asked]:
    return list(asked(test_data / "r4-examples"))


def test_every_invariant_holds_on_every_clinical_example_or_is_explained(answers: list[Asked]) -> None:
    assert len(answers) > 200_000
    broken = {(one.invariant.key, one.example) for one in answers if one.answer is False}
    assert broken == {(key, example) for key, examples in BROKEN.items() for example in examples}


def test_an_invariant_is_empty_only_where_it_is_explained(answers: list[Asked]) -> None:
    assert {one.invariant.key for one in answers if one.answer is None} == set(EMPTY)


def test_all_invariants_of_the_definitions_compile() -> None:
    found = {i for t in registry().types.values() for e in t.elements.values() for i in e.invariants}
    for invariant in found:
        compile_expression(invariant.expression, registry=registry())
    assert len({(i.key, i.expression) for i in found}) == 239


def test_the_names_in_invariants_are_those_of_elements() -> None:
    refused = set()
    for definition in registry().types.values():
        for element in definition.elements.values():
            for invariant in () if element.is_choice else element.invariants:
                try:
                    compile_expression(invariant.expression, registry=registry(), root_type=element.path)
                except InvalidError:
                    refused.add(invariant.key)
    # R4 gives ChargeItemDefinition the rule of the resources that have a name, which it has not.
    assert refused == {"cid-0"}


def test_all_search_expressions_compile() -> None:
    found = [p.expression for p in registry().search_parameters.values() if p.expression]
    for expression in found:
        compile_expression(expression, registry=registry())
    assert len(found) > 1000
