"""Compiled expressions: typed items and their places, variables, ports, faults with a position."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.fhirpath.expression import compile_expression
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.walk import definitions_of, walk
from fhir_server.model.errors import InvalidError
from fhir_server.search.ucum import canonical
from profiles.registry import registry
from profiles.terminology import terminology

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "contained": [{"resourceType": "Organization", "id": "o1", "name": "Clinic"}],
    "active": True,
    "name": [
        {"use": "official", "family": "Lovelace", "given": ["Ada", None], "_given": [None, {"id": "g2"}]},
        {"use": "usual", "given": ["Countess"]},
    ],
    "birthDate": "1815-12-10",
    "_birthDate": {
        "id": "b",
        "extension": [{"url": "http://x/time", "valueDateTime": "1815-12-10T07:00:00Z"}],
    },
    "deceasedDateTime": "1852-11",
    "generalPractitioner": [{"reference": "Practitioner/7"}],
    "managingOrganization": {"reference": "#o1"},
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
    "valueQuantity": {
        "value": Decimal("120.0"),
        "unit": "mg/dL",
        "system": "http://unitsofmeasure.org",
        "code": "mg/dL",
    },
}


def evaluate(text: str, node: Any = PATIENT, root_type: str | None = None, **ports: Any) -> list[Item]:
    return compile_expression(text, registry=registry(), root_type=root_type).evaluate(node, **ports)


def values(text: str, node: Any = PATIENT, root_type: str | None = None, **ports: Any) -> list[Any]:
    return [item.value for item in evaluate(text, node, root_type, **ports)]


@pytest.mark.parametrize(
    ("text", "type_name", "value"),
    [
        ("birthDate", "FHIR.date", "1815-12-10"),
        ("Patient.deceased", "FHIR.dateTime", "1852-11"),
        ("name.first().use", "FHIR.code", "official"),
        ("name[1].given", "FHIR.string", "Countess"),
        ("name.count()", "System.Integer", 2),
        ("1.5 + 1", "System.Decimal", Decimal("2.5")),
        ("'a' + 'b'", "System.String", "ab"),
        ("id", "FHIR.id", "p1"),
        ("birthDate.getValue()", "System.Date", "1815-12-10"),
        ("birthDate + 1 year", "FHIR.date", "1816-12-10"),
    ],
)
def test_items_carry_their_types(text: str, type_name: str, value: Any) -> None:
    (item,) = evaluate(text, root_type="Patient")
    assert (item.type, item.value) == (type_name, value)


def test_an_element_is_the_very_object_of_the_resource_and_knows_its_place() -> None:
    (item,) = evaluate("name.where(use = 'usual')")
    assert item.value is PATIENT["name"][1]
    assert item.path == "Patient.name[1]"
    assert item.parent is not None
    assert (item.parent.value is PATIENT, item.key, item.at) == (True, "name", 1)
    assert [given.path for given in evaluate("name.given")] == [
        "Patient.name[0].given[0]",
        "Patient.name[0].given[1]",
        "Patient.name[1].given[0]",
    ]
    assert [value.path for value in evaluate("deceased")] == ["Patient.deceasedDateTime"]


def test_the_extensions_and_the_id_of_a_primitive_are_reached_through_it() -> None:
    assert values("birthDate.extension('http://x/time').value") == ["1815-12-10T07:00:00Z"]
    assert values("birthDate.extension.value is dateTime") == [True]
    assert values("birthDate.id | name.given.id") == ["b", "g2"]
    assert values("birthDate.hasExtension('http://x/time')") == [True]
    assert values("name.given.select(hasValue())") == [True, False, True]


def test_an_element_is_evaluated_by_its_path_or_its_type() -> None:
    contact = {"name": {"family": "King"}, "relationship": [{"text": "husband"}]}
    assert values("name.family", contact, "Patient.contact") == ["King"]
    assert values("family", contact["name"], "HumanName") == ["King"]
    assert values("$this = 'x' and length() = 1", "x", "code") == [True]
    with pytest.raises(InvalidError, match="has no element 'birthDate'"):
        evaluate("birthDate", contact, "Patient.contact")


def test_the_resource_around_an_element_is_found_or_given() -> None:
    (name,) = evaluate("name.first()")
    assert values("%resource.id", name) == ["p1"]
    (contained,) = evaluate("contained")
    assert values("%resource.id | %rootResource.id | %context.name", contained) == ["o1", "p1", "Clinic"]
    assert values("%resource.id", {"family": "x"}, "HumanName", variables={"resource": PATIENT}) == ["p1"]
    with pytest.raises(InvalidError, match="%resource is not known here"):
        evaluate("%resource.id", {"family": "x"}, "HumanName")


def test_variables_are_plain_values_items_or_lists() -> None:
    variables = {"one": 1, "many": ["a", "b"], "who": PATIENT, "none": None, "real": Decimal("1.50")}
    assert values("%one + 1", variables=variables) == [2]
    assert values("%many.join('-')", variables=variables) == ["a-b"]
    assert values("%who.id", OBSERVATION, variables=variables) == ["p1"]
    assert values("%none.exists()", variables=variables) == [False]
    assert values("%real.toString()", variables=variables) == ["1.50"]
    assert values("%`ext-patient-birthTime`") == ["http://hl7.org/fhir/StructureDefinition/patient-birthTime"]


def test_references_lead_into_the_resource_into_the_bundle_and_out() -> None:
    asked: list[str] = []

    def resolve(address: str) -> dict[str, Any] | None:
        asked.append(address)
        return {"resourceType": "Practitioner", "id": "7"} if address == "Practitioner/7" else None

    assert values("managingOrganization.resolve().name", resolve=resolve) == ["Clinic"]
    assert asked == []
    assert values("generalPractitioner.resolve() is Practitioner", resolve=resolve) == [True]
    assert values("generalPractitioner.resolve()") == []
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {"fullUrl": "http://a/fhir/Patient/p1", "resource": PATIENT},
            {"fullUrl": "http://a/fhir/Practitioner/7", "resource": {"resourceType": "Practitioner", "id": "7"}},
            {"fullUrl": "http://b/fhir/Practitioner/7", "resource": {"resourceType": "Practitioner", "id": "7b"}},
        ],
    }
    assert values("entry.resource.generalPractitioner.resolve().id", bundle) == ["7"]
    assert values("('http://b/fhir/Practitioner/7').resolve().id", bundle) == ["7b"]


def test_terminology_is_asked_through_its_port() -> None:
    genders = "http://hl7.org/fhir/ValueSet/administrative-gender"
    coding = {"system": "http://hl7.org/fhir/administrative-gender", "code": "male"}
    assert values(f"memberOf('{genders}')", coding, "Coding", terminology=terminology()) == [True]
    assert values(f"memberOf('{genders}')", {**coding, "code": "x"}, "Coding", terminology=terminology()) == [False]
    assert values("memberOf('http://nowhere')", coding, "Coding", terminology=terminology()) == []
    assert values(f"memberOf('{genders}')", coding, "Coding") == []
    above = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "_ActEncounterCode"}
    below = {**above, "code": "AMB"}
    ports = {"terminology": terminology(), "variables": {"other": evaluate("$this", below, "Coding")}}
    assert values("subsumes(%other)", above, "Coding", **ports) == [True]
    assert values("subsumedBy(%other)", above, "Coding", **ports) == [False]


def test_units_are_converted_through_their_port_only() -> None:
    assert values("value = 1.2 'g/L'", OBSERVATION, units=canonical) == [True]
    assert values("value = 1.2 'g/L'", OBSERVATION) == []
    assert values("value > 100 'mg/dL'", OBSERVATION) == [True]
    assert values("(value + 0.1 'g/L').toString()", OBSERVATION, units=canonical) == ["130.0 'mg/dL'"]
    assert values("value.toQuantity('g/L') = value", OBSERVATION, units=canonical) == [True]
    assert values("7 days = 1 week and 1 year != 13 months") == [True]
    assert values("1 year = 1 'a'") == []


def test_profiles_are_judged_by_the_caller() -> None:
    def conforms(resource: dict[str, Any], profile: str) -> bool | None:
        return resource["id"] == "p1" if profile == "http://mine" else None

    assert values("conformsTo('http://mine')", conforms=conforms) == [True]
    assert values("conformsTo('http://hl7.org/fhir/StructureDefinition/DomainResource')") == [True]
    with pytest.raises(InvalidError, match="http://other is not known"):
        evaluate("conformsTo('http://other')", conforms=conforms)


def test_a_trace_is_handed_out_and_changes_nothing() -> None:
    seen: list[tuple[str, int]] = []
    assert values("name.trace('names').use", trace=lambda name, items: seen.append((name, len(items)))) == [
        "official",
        "usual",
    ]
    assert seen == [("names", 2)]


def test_the_clock_stands_still_during_an_evaluation() -> None:
    moment = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    assert values("now()", now=moment) == ["2024-02-29T12:30:00.000Z"]
    assert values("today() = @2024-02-29 and now() = now() and timeOfDay() = @T12:30:00.000", now=moment) == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name.fooo()", "position 6: there is no function fooo"),
        ("name.first(1)", "position 6: first\\(\\) takes 0 arguments, found 1"),
        ("name.given.upper()", "position 12: upper\\(\\) works on a single string, found 3 items"),
        ("active + 1", "position 8: '\\+' is not defined between a FHIR.boolean and a System.Integer"),
        ("name.single()", "position 6: single\\(\\) found 2 items"),
        ("name is Nothing", "position 6: 'Nothing' is no type"),
        ("@2024-02-30", "names no real Date"),
        ("%nothing", "position 1: the variable %nothing is not known"),
        ("name.where(", "position 12"),
        ("$that", "is no variable"),
    ],
)
def test_a_fault_names_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "(1).repeatAll($this)",
        "('0123456789')" + ".select($this & $this)" * 60,
        "(1 | 2)" + ".select($this.combine($this))" * 60,
        "name" + ".select($this.combine($this))" * 60,
    ],
)
def test_an_expression_that_grows_without_end_is_stopped(text: str) -> None:
    with pytest.raises(InvalidError, match="more than"):
        evaluate(text)


@pytest.mark.parametrize("text", ["1E5", "(10.power(1000)).toString()", "9.9.power(1000) * 9.9.power(1000)"])
def test_numbers_beyond_reason_do_no_harm(text: str) -> None:
    try:
        found = values(text)
    except InvalidError:
        return
    assert len(found) <= 1


def test_a_number_of_a_client_with_a_huge_exponent_does_no_harm() -> None:
    vast = {**OBSERVATION, "valueQuantity": {"value": Decimal("1E999999"), "unit": "g", "code": "g"}}
    for text in ("value.value.floor()", "value.value div 3", "value.value.toString()", "value.value.lowBoundary()"):
        assert len(values(text, vast)) <= 1
    assert values("value.value * value.value", vast) == []
    assert values("@2020 + 1 year > @2020", vast) == [True]


def test_as_takes_several_items_unless_one_asks_for_the_rule_of_fhirpath() -> None:
    assert len(values("name.as(HumanName)")) == 2
    strict = compile_expression("name.as(HumanName)", registry=registry(), single_as=True)
    with pytest.raises(InvalidError, match="single item, found 2"):
        strict.evaluate(PATIENT)


def test_a_resource_of_a_choice_of_types_is_looked_into_as_what_it_is() -> None:
    assert values("contained.name") == ["Clinic"]
    assert values("contained.ofType(Organization).name | contained.ofType(Patient).name") == ["Clinic"]
    assert values("contained is Resource") == [True]


def test_index_and_total_are_those_of_the_innermost_loop() -> None:
    assert values("(10 | 20 | 30).select($index * 100 + $this)") == [10, 120, 230]
    assert values("(1 | 2 | 3).where((7 | 8).where($index = 1).exists() and $index > 0)") == [2, 3]
    assert values("(1 | 2 | 3).aggregate($total + $this * (1 | 2).aggregate($total + $this, 0), 0)") == [18]


def test_modifiers_that_are_not_understood_are_a_fault() -> None:
    marked = {**PATIENT, "modifierExtension": [{"url": "http://m", "valueBoolean": True}]}
    assert len(values("checkModifiers('http://m')", marked)) == 1
    with pytest.raises(InvalidError, match="http://m is not understood"):
        evaluate("checkModifiers('http://n')", marked)


def test_a_walk_meets_every_element_with_its_definitions() -> None:
    found = {item.path: [e.path for e in definitions_of(item)] for item in walk(PATIENT, registry())}
    assert found["Patient.name[0]"] == ["Patient.name", "HumanName"]
    assert found["Patient.birthDate.extension[0].valueDateTime"] == ["Extension.value[x]", "dateTime"]
    assert found["Patient.contained[0].name"] == ["Organization.name", "string"]
    assert found["Patient.name[0].given[1].id"] == ["string.id", "string"]


def test_an_expression_is_shared_between_threads() -> None:
    expression = compile_expression("(1 | 2 | 3).aggregate($total + $this + %add, 0)", registry=registry())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: expression.evaluate(PATIENT, variables={"add": n})[0].value, range(200)))
    assert found == [6 + 3 * n for n in range(200)]


def test_a_condition_is_true_false_or_empty() -> None:
    holds = [
        compile_expression(text, registry=registry()).holds(PATIENT)
        for text in ("active", "name.empty()", "photo.size > 1", "name.exists() and birthDate > @1800")
    ]
    assert holds == [True, False, None, True]


@pytest.mark.parametrize(
    "text",
    [
        "%resource.descendants().all(" * 6 + "true" + ")" * 6,
        "('a' & 'b').select($this & $this)" + ".replace('', $this)" * 8,
        "'aaaaaaaaaa'" + ".replaceMatches('a', $this & $this & $this & $this)" * 12,
        "('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.toChars()).join('b')"
        + ".toChars().join('ccccccccccccccccccccc')" * 6,
        "9" * 5000,
    ],
)
def test_work_beyond_reason_is_refused(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidError):
        evaluate(text, {**PATIENT, "contact": [{"name": {"family": "x", "given": ["a", "b", "c"]}}] * 200})
    assert time.perf_counter() - start < 30
