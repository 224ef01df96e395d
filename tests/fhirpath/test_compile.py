"""Expressions compiled against the element tables find what they say, with its type."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.fhirpath.compile import compiled, typed_values
from fhir_server.fhirpath.shapes import shape_of
from fhir_server.model.errors import InvalidError
from profiles.registry import SearchParameter, registry

#: R4 defines these without an expression: they are answered from elsewhere, or from extensions nobody has described.
WITHOUT_EXPRESSION = {
    *("DomainResource-text", "Resource-content", "Resource-query", "filter"),
    *("patient-extensions-Patient-age", "patient-extensions-Patient-birthOrderBoolean"),
    *(f"codesystem-extensions-CodeSystem-{n}" for n in ("author", "effective", "end", "keyword", "workflow")),
    *(f"valueset-extensions-ValueSet-{n}" for n in ("author", "effective", "end", "keyword", "workflow")),
}

#: Its base is Patient and its expression starts from DocumentReference, so no Patient can have a value.
WITHOUT_BRANCH = {"example-extension"}


def concrete(parameter: SearchParameter) -> list[str]:
    types = registry().types
    found: list[str] = []
    for base in parameter.base:
        if types[base].abstract:
            found += [n for n in registry().resource_types if base == "Resource" or types[n].base == base]
        else:
            found.append(base)
    return found


def local_name(parameter: SearchParameter) -> str:
    return parameter.url.rsplit("/", 1)[-1]


def test_all_search_parameters_have_an_expression_but_those_listed() -> None:
    parameters = registry().search_parameters.values()
    assert len(parameters) == 1400 + 2  # those of R4, and our own `validity` and `group-identifier`
    assert {local_name(p) for p in parameters if p.expression is None} == WITHOUT_EXPRESSION


def test_every_expression_compiles_for_each_of_its_concrete_base_types() -> None:
    empty: set[str] = set()
    for parameter in registry().search_parameters.values():
        if parameter.expression is None:
            continue
        for resource_type in concrete(parameter):
            root = shape_of(resource_type)
            branches = compiled(registry(), parameter.expression, root)
            if not branches:
                empty.add(local_name(parameter))
            for branch in branches:
                for _, expression in parameter.component:
                    assert compiled(registry(), expression, branch.shape, root), (parameter.url, expression)
    assert empty == WITHOUT_BRANCH


def values(expression: str, resource: dict[str, Any]) -> list[tuple[Any, str]]:
    return typed_values(registry(), expression, resource["resourceType"])(resource)


PATIENT = {
    "resourceType": "Patient",
    "deceasedDateTime": "2020-01-01",
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "a@b"}, {"value": "none"}],
    "name": [{"given": ["A", None, "B"]}, {"family": "C"}],
    "extension": [{"url": "http://x/y", "valueString": "z"}, {"url": "http://x/other", "valueString": "o"}],
    "generalPractitioner": [
        {"reference": "Practitioner/1"},
        {"reference": "https://elsewhere.org/fhir/Organization/2/_history/3"},
        {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
        {"type": "Organization", "identifier": {"value": "9"}},
        {"reference": "Practitioner?identifier=1"},
        {"display": "somebody"},
    ],
}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("Patient.name.given", [("A", "string"), ("B", "string")]),
        ("Patient.deceased", [("2020-01-01", "dateTime")]),
        ("Patient.deceased as boolean", []),
        ("(Patient.deceased as dateTime)", [("2020-01-01", "dateTime")]),
        ("Patient.deceased.ofType(DateTime)", [("2020-01-01", "dateTime")]),
        ("Patient.deceased.exists() and Patient.deceased != false", [(True, "boolean")]),
        ("Patient.birthDate.exists() and Patient.deceased != false", [(False, "boolean")]),
        ("Patient.birthDate.empty() or {}", [(True, "boolean")]),
        ("Patient.active.not()", []),
        ("Patient.deceased.exists().not()", [(False, "boolean")]),
        ("Patient.telecom.where(system='email').value", [("a@b", "string")]),
        ("Patient.telecom.where(system != 'email').value", [("1", "string")]),
        ("Patient.telecom.where(system.exists().not()).value", [("none", "string")]),
        ("Patient.telecom.where(value = 'none' or system = 'phone').value", [("1", "string"), ("none", "string")]),
        ("Patient.telecom[1].value", [("a@b", "string")]),
        ("Patient.telecom.value[2]", [("none", "string")]),
        ("Patient.telecom[7].value", []),
        ("Patient.name.id | Patient.name.given | Patient.name.id", [("A", "string"), ("B", "string")]),
        ("Patient.name.given.first()", [("A", "string")]),
        ("Patient.extension('http://x/y').value.ofType(string)", [("z", "string")]),
        ("Patient.name.where(family.exists() = given.exists())", []),
        ("Practitioner.name", []),
        ("DomainResource.extension('http://x/none')", []),
        ("Resource.id", []),
        ("Patient.name.where(extension('http://x').exists())", []),
        ("Patient.deceased is dateTime", [(True, "boolean")]),
    ],
)
def test_an_expression_finds_the_values_with_their_types(expression: str, found: list[tuple[Any, str]]) -> None:
    assert values(expression, PATIENT) == found


def test_resolve_is_keeps_references_of_that_type_and_those_that_only_resolving_would_tell() -> None:
    practitioners = [v for v, _ in values("Patient.generalPractitioner.where(resolve() is Practitioner)", PATIENT)]
    organizations = [v for v, _ in values("Patient.generalPractitioner.where(resolve() is Organization)", PATIENT)]
    given = PATIENT["generalPractitioner"]
    assert practitioners == [given[0], given[2], given[4], given[5]]
    assert organizations == [given[1], given[2], given[3], given[5]]


def test_has_extension_and_a_typed_choice_find_the_subject_of_an_item() -> None:
    url = "http://hl7.org/fhir/StructureDefinition/questionnaireresponse-isSubject"
    answer = [{"valueReference": {"reference": "Patient/1"}}, {"valueString": "Patient/2"}]
    response = {
        "resourceType": "QuestionnaireResponse",
        "item": [
            {"linkId": "1", "extension": [{"url": url, "valueBoolean": True}], "answer": answer},
            {"linkId": "2", "answer": [{"valueReference": {"reference": "Patient/3"}}]},
        ],
    }
    expression = f"QuestionnaireResponse.item.where(hasExtension('{url}')).answer.value.ofType(Reference)"
    assert values(expression, response) == [({"reference": "Patient/1"}, "Reference")]


def test_a_recursive_element_is_followed_only_as_far_as_the_path_says() -> None:
    questionnaire = {
        "resourceType": "Questionnaire",
        "item": [{"linkId": "1", "item": [{"linkId": "1.1", "item": [{"linkId": "1.1.1"}]}]}],
    }
    assert values("Questionnaire.item.linkId", questionnaire) == [("1", "string")]
    assert values("Questionnaire.item.item.item.linkId", questionnaire) == [("1.1.1", "string")]


def test_a_composite_reads_from_the_element_and_from_the_resource() -> None:
    base = compiled(registry(), "MolecularSequence.variant", shape_of("MolecularSequence"))[0]
    root = compiled(registry(), "%resource.referenceSeq.chromosome", base.shape, shape_of("MolecularSequence"))[0]
    assert root.from_root
    assert root.evaluator()({"referenceSeq": {"chromosome": {"text": "1"}}}) == [{"text": "1"}]


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("Patient.nme", "HS-FHIRPATH-ELEMENT"),
        ("Patient.name as Nothing", "HS-FHIRPATH-TYPE"),
        ("Patient.name.aggregate($this)", "HS-FHIRPATH-UNKNOWN"),
        ("Patient.name.given + 'x'", "HS-FHIRPATH-UNKNOWN"),
        ("%context.name", "HS-FHIRPATH-UNKNOWN"),
        ("Patient.name.where(%resource.active)", "HS-FHIRPATH-UNKNOWN"),
    ],
)
def test_what_search_expressions_do_not_have_is_refused_by_name(expression: str, key: str) -> None:
    with pytest.raises(InvalidError) as refused:
        compiled(registry(), expression, shape_of("Patient"))
    assert refused.value.issues[0].key == key
