"""What a resource leaves in the index, by the type of the search parameter and of the value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.codec import decimal_of
from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, interval_of
from fhir_server.search.entries.number import HIGHEST, LOWEST, clipped
from fhir_server.search.index import Indexer
from profiles.registry import registry
from profiles.terminology import terminology

LOINC, UCUM, GENDER = "http://loinc.org", "http://unitsofmeasure.org", "http://hl7.org/fhir/administrative-gender"

indexer = Indexer(registry(), terminology(), "https://our.example/fhir")


def entries(resource_type: str, **members: Any) -> dict[str, Any]:
    return indexer.entries_of({"resourceType": resource_type, **members})


def span(start: str, end: str | None = None) -> dict[str, int]:
    return {"s": interval_of(start).start_us, "e": interval_of(end or start).end_us}


def test_a_resource_with_nothing_searchable_leaves_nothing() -> None:
    assert entries("Basic", id="1", language="en", meta={"lastUpdated": "2020-01-01T00:00:00Z"}) == {}


def test_a_coding_is_found_under_any_system_and_under_its_own_and_by_its_texts() -> None:
    coding = [{"system": LOINC, "code": "8302-2", "display": "Body  Height"}, {"code": "X"}, {"system": "http://only"}]
    found = entries("Observation", code={"coding": coding, "text": "Größe"})
    assert found["code"] == ["=8302-2", f"{LOINC}|8302-2", "=x", "|x", "http://only|"]
    assert found["code:text"] == ["body height", "grosse"]
    assert found["combo-code"] == found["code"]


def test_a_code_keeps_its_case_where_its_system_is_known_to_care() -> None:
    v3 = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    assert terminology().is_case_sensitive(v3)
    found = entries("Encounter", **{"class": {"system": v3, "code": "AMB"}})
    assert found["class"] == ["=amb", f"{v3}|AMB"]
    assert entries("Encounter", **{"class": {"system": "http://own", "code": "AMB"}})["class"] == [
        *("=amb", "http://own|amb"),
    ]


def test_a_code_is_found_with_and_without_the_system_that_its_binding_implies() -> None:
    assert entries("Patient", gender="male")["gender"] == ["=male", "|male", f"{GENDER}|male"]


def test_booleans_and_strings_are_tokens_without_a_system() -> None:
    assert entries("Patient", active=False)["active"] == ["=false", "|false"]
    assert entries("ValueSet", version="1.A")["version"] == ["=1.a", "|1.a"]


@pytest.mark.parametrize(
    ("members", "deceased"),
    [({}, "false"), ({"deceasedBoolean": False}, "false"), ({"deceasedBoolean": True}, "true")],
)
def test_deceased_is_true_for_a_flag_and_false_without_one(members: dict[str, Any], deceased: str) -> None:
    assert entries("Patient", **members)["deceased"] == [f"={deceased}", f"|{deceased}"]


def test_deceased_is_true_for_a_date_too() -> None:
    found = entries("Patient", deceasedDateTime="2020-05")
    assert found["deceased"] == ["=true", "|true"]
    assert found["death-date"] == span("2020-05")


def test_an_identifier_is_found_by_value_by_system_and_by_its_type() -> None:
    v2 = "http://terminology.hl7.org/CodeSystem/v2-0203"
    kind = {"coding": [{"system": v2, "code": "MR"}], "text": "Medical Record"}
    found = entries("Patient", identifier=[{"system": "urn:oid:1", "value": "A12", "type": kind}, {"value": "b"}])
    assert found["identifier"] == ["=a12", "urn:oid:1|a12", "=b", "|b"]
    assert found["identifier:of-type"] == [f"{v2}|MR|a12"]
    assert found["identifier:text"] == ["medical record"]


def test_a_contact_point_is_a_token_of_the_parameter_that_asks_for_its_system() -> None:
    found = entries("Patient", telecom=[{"system": "email", "value": "A@b.org", "use": "home"}, {"system": "phone"}])
    assert found["email"] == found["telecom"] == ["=a@b.org", "|a@b.org"]
    assert "phone" not in found


def test_names_and_addresses_leave_their_parts_normalized_and_as_written() -> None:
    name = {"text": "Dr. José Díaz", "family": "Díaz", "given": ["José", None], "prefix": ["Dr."], "use": "official"}
    address = {"line": ["Weg 1"], "city": "Köln", "postalCode": "50667", "use": "home", "type": "both"}
    found = entries("Patient", name=[name], address=[address])
    assert found["name"] == ["dr. jose diaz", "diaz", "jose", "dr."]
    assert found["name:exact"] == ["Dr. José Díaz", "Díaz", "José", "Dr."]
    assert (found["family"], found["given"]) == (["diaz"], ["jose"])
    assert found["address"] == ["weg 1", "koln", "50667"]
    assert found["address-city:exact"] == ["Köln"]
    assert found["address-use"][0] == "=home"


@pytest.mark.parametrize(
    ("reference", "entry"),
    [
        ("Patient/1", "Patient/1"),
        ("Patient/1/_history/2", "Patient/1"),
        ("https://our.example/fhir/Patient/1", "Patient/1"),
        ("https://our.example/fhir/Patient/1/_history/2", "Patient/1"),
        ("https://other.example/fhir/Patient/1/_history/2", "https://other.example/fhir/Patient/1/_history/2"),
        ("https://our.example/fhirs/Patient/1", "https://our.example/fhirs/Patient/1"),
        ("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"),
        ("#contained", None),
    ],
)
def test_a_reference_is_local_when_it_points_here(reference: str, entry: str | None) -> None:
    found = entries("Observation", subject={"reference": reference})
    assert found.get("subject") == entry
    assert found.get("patient") == entry


def test_a_logical_reference_is_found_by_its_identifier() -> None:
    found = entries("Observation", subject={"type": "Group", "identifier": {"system": "urn:oid:1", "value": "G"}})
    assert found == {"subject:identifier": ["=g", "urn:oid:1|g"], "subject:present": True}


def test_a_canonical_is_found_with_and_without_its_version() -> None:
    found = entries("QuestionnaireResponse", questionnaire="http://x/q|1.0", meta={"profile": ["http://x/p|2", "#p"]})
    assert found["questionnaire"] == ["http://x/q", "http://x/q|1.0"]
    assert found["_profile"] == ["http://x/p", "http://x/p|2"]


def test_meta_is_indexed_for_every_type() -> None:
    meta = {"tag": [{"system": "http://t", "code": "a"}], "security": [{"code": "R"}], "source": "urn:s#1"}
    found = entries("Binary", contentType="text/plain", meta=meta)
    assert found == {"_tag": ["=a", "http://t|a"], "_security": ["=r", "|r"], "_source": ["urn:s#1"]}


@pytest.mark.parametrize(
    ("effective", "date"),
    [
        ({"effectiveDateTime": "2020-05-01T10:00:00+02:00"}, span("2020-05-01T08:00:00Z")),
        ({"effectiveInstant": "2020-05-01T10:00:00.5Z"}, span("2020-05-01T10:00:00.5Z")),
        ({"effectivePeriod": {"start": "2020", "end": "2021-03"}}, span("2020", "2021-03")),
        ({"effectivePeriod": {"start": "2020"}}, {"s": span("2020")["s"], "e": OPEN_END_US}),
        ({"effectivePeriod": {"end": "2020"}}, {"s": OPEN_START_US, "e": span("2020")["e"]}),
        ({"effectiveTiming": {"event": ["2020-05", None, "2019-02-03"]}}, span("2019-02-03", "2020-05")),
        ({"effectiveTiming": {"repeat": {"boundsPeriod": {"start": "2020", "end": "2021"}}}}, span("2020", "2021")),
        ({"effectiveTiming": {"repeat": {"frequency": 1}}}, None),
        ({"effectivePeriod": {"extension": [{"url": "http://x", "valueCode": "y"}]}}, None),
        ({"effectiveDateTime": "2020-02-30"}, None),
        ({"_effectiveDateTime": {"extension": [{"url": "http://x", "valueCode": "y"}]}}, None),
    ],
)
def test_a_date_leaves_the_span_it_may_mean(effective: dict[str, Any], date: dict[str, int] | None) -> None:
    assert entries("Observation", **effective).get("date") == date


def test_a_quantity_is_found_as_written_and_in_canonical_units() -> None:
    quantity = {"value": Decimal("120.0"), "unit": "mg/dl", "system": UCUM, "code": "mg/dL"}
    assert entries("Observation", valueQuantity=quantity)["value-quantity"] == [
        {
            **{"l": Decimal("120.0"), "h": Decimal("120.0"), "u": [f"{UCUM}|mg/dL", "=mg/dL", "=mg/dl"]},
            **{"cl": Decimal(1200), "ch": Decimal(1200), "cu": "g.m-3"},
        }
    ]


def test_a_quantity_with_a_comparator_is_open_on_one_side() -> None:
    quantity = {"value": 5, "comparator": "<", "system": UCUM, "code": "g"}
    entry = entries("Observation", valueQuantity=quantity)["value-quantity"][0]
    assert (entry["l"], entry["h"], entry["cl"], entry["ch"]) == (LOWEST, 5, LOWEST, 5)
    entry = entries("Observation", valueQuantity={**quantity, "comparator": ">="})["value-quantity"][0]
    assert (entry["l"], entry["h"], entry["cl"], entry["ch"]) == (5, HIGHEST, 5, HIGHEST)


@pytest.mark.parametrize("quantity", [{"unit": "g"}, {"value": 1}, {"value": 1, "system": UCUM, "code": "no unit"}])
def test_an_incomplete_quantity_leaves_what_it_says(quantity: dict[str, Any]) -> None:
    found = entries("Observation", valueQuantity=quantity).get("value-quantity")
    expected = [f"{UCUM}|no unit", "=no unit"] if "code" in quantity else []
    assert found == ([{"l": Decimal(1), "h": Decimal(1), "u": expected}] if "value" in quantity else None)


def test_money_is_a_quantity_of_its_currency() -> None:
    found = entries("Invoice", totalGross={"value": Decimal("9.90"), "currency": "EUR"})
    units = ["urn:iso:std:iso:4217|EUR", "=EUR"]
    assert found["totalgross"] == [{"l": Decimal("9.90"), "h": Decimal("9.90"), "u": units}]


def test_a_range_is_one_entry_and_its_ends_may_be_open_or_in_other_units() -> None:
    kilo, gram = {"system": UCUM, "code": "kg"}, {"system": UCUM, "code": "g"}
    found = [
        entries("Condition", onsetRange=onset)["onset-age"][0]
        for onset in (
            {"low": {"value": 1, **kilo}, "high": {"value": 2, **kilo}},
            {"high": {"value": 2, **kilo}},
            {"low": {"value": 1, **gram}, "high": {"value": 2, **kilo}},
        )
    ]
    assert [(e["l"], e["h"], e["cl"], e["ch"]) for e in found] == [
        *((1, 2, 1000, 2000), (LOWEST, 2, LOWEST, 2000), (1, 2000, 1, 2000)),
    ]


def test_numbers_are_points_and_ranges_spans() -> None:
    risk = entries("RiskAssessment", prediction=[{"probabilityDecimal": decimal_of("1E-2")}])
    assert risk["probability"] == [{"l": Decimal("0.01"), "h": Decimal("0.01")}]
    risk = entries("RiskAssessment", prediction=[{"probabilityRange": {"low": {"value": 10}}}])
    assert risk["probability"] == [{"l": Decimal(10), "h": HIGHEST}]


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.integers())
def test_any_number_fits_a_decimal128(value: Decimal | int) -> None:
    number = clipped(value)
    assert number.is_finite()
    assert len(number.as_tuple().digits) <= 34
    assert number.adjusted() <= 6144


def test_composites_keep_together_what_belongs_together() -> None:
    def part(code: str, value: int) -> dict[str, Any]:
        return {"code": {"coding": [{"code": code}]}, "valueQuantity": {"value": value}}

    found = entries("Observation", code={"text": "BP"}, component=[part("sys", 120), part("dia", 80), {"code": {}}])
    pairs = [
        {"0": [f"={code}", f"|{code}"], "1": [{"l": Decimal(value), "h": Decimal(value), "u": []}]}
        for code, value in (("sys", 120), ("dia", 80))
    ]
    assert found["component-code-value-quantity"] == found["combo-code-value-quantity"] == pairs
    assert "code-value-quantity" not in found


def test_a_root_composite_is_made_for_the_value_that_is_there() -> None:
    found = entries("Observation", code={"coding": [{"code": "a"}]}, valueDateTime="2020")
    assert found["code-value-date"] == [{"0": ["=a", "|a"], "1": [span("2020")]}]
    assert not {"code-value-quantity", "code-value-string", "combo-code-value-quantity"} & found.keys()


def test_the_relationship_of_a_document_is_a_code_with_a_reference() -> None:
    found = entries(
        "DocumentReference", relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/1"}}]
    )
    assert found["relationship"][0]["0"][0] == "=replaces"
    assert found["relationship"][0]["1"] == ["DocumentReference/1"]


def test_a_component_may_come_from_the_resource() -> None:
    found = entries(
        "MolecularSequence",
        referenceSeq={"chromosome": {"coding": [{"code": "1"}]}},
        variant=[{"start": 5, "end": 6}],
    )
    five, six = ({"l": Decimal(n), "h": Decimal(n)} for n in (5, 6))
    assert found["chromosome-variant-coordinate"] == [{"0": ["=1", "|1"], "1": [five], "2": [six]}]


def test_a_document_refers_to_the_composition_in_it() -> None:
    entry = [{"resource": {"resourceType": "Composition", "id": "c"}}, {"resource": {"resourceType": "Patient"}}]
    found = entries("Bundle", type="document", entry=entry)
    assert found["composition"] == ["Composition/c"]
    assert "message" not in found


def test_an_extension_is_indexed_by_its_value() -> None:
    url = "http://hl7.org/fhir/StructureDefinition/patient-extensions-Patient-mothersMaidenName"
    found = entries("Patient", extension=[{"url": url, "valueString": "Ärz"}, {"url": "http://x", "valueString": "y"}])
    assert found["mothersMaidenName"] == ["arz"]


def test_a_place_is_a_point_on_the_globe_or_nothing() -> None:
    position = {"longitude": Decimal("13.4"), "latitude": Decimal("52.5")}
    assert entries("Location", position=position)["near"] == {"type": "Point", "coordinates": [13.4, 52.5]}
    assert "near" not in entries("Location", position={**position, "latitude": Decimal("91")})


def test_entries_come_once_each_in_document_order() -> None:
    found = entries("Patient", name=[{"given": ["B", "A", "B"]}, {"given": ["A", "C"]}])
    assert found["given"] == ["b", "a", "c"]
    assert found["given:exact"] == ["B", "A", "C"]


def test_union_branches_of_one_parameter_are_joined() -> None:
    plan = {"resourceType": "PlanDefinition", "useContext": []}
    related = [{"type": "depends-on", "resource": "http://x/a"}, {"type": "composed-of", "resource": "http://x/b"}]
    found = indexer.entries_of({**plan, "relatedArtifact": related, "library": ["http://x/c", "http://x/a"]})
    assert found["depends-on"] == ["http://x/a", "http://x/c"]
    assert found["composed-of"] == ["http://x/b"]


def test_null_in_an_array_is_passed_over() -> None:
    assert entries("HealthcareService", name="x", _comment={}, photo={}, identifier=[])["name"] == ["x"]
    assert entries("Patient", name=[{"given": [None], "_given": [{"id": "a"}]}]).keys() == {
        "deceased",
        "name:present",
        "phonetic:present",
    }
