"""What speaks against a prescription, what is said not to be checked, and how a finding is overridden."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from resources.prescription import medicines as table_of
from resources.prescription.doses import UnclearError, daily, strength_in
from resources.prescription.findings import Allergy, Line, report_of
from resources.prescription.medicines import ATC, RXNORM, SNOMED, medicines
from tests.resources.prescription.conftest import Clinic, all_of, given, key_of, values

Json = dict[str, Any]


ACTIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}


def coded(system: str, code: str, display: str | None = None) -> Json:
    return {"coding": [{"system": system, "code": code} | ({"display": display} if display else {})]}


def text(words: str) -> Json:
    return {"text": words}


def line(concept: Json, reference: str = "MedicationRequest/1", **more: Any) -> Line:
    return Line(reference, medicines().meant_by([concept]), **more)


def allergy(concept: Json, **more: Any) -> Allergy:
    return Allergy("AllergyIntolerance/1", medicines().meant_by([concept]), **more)


def found(lines: list[Line], allergies: list[Allergy] = [], others: list[Line] = []) -> list[tuple[str, str]]:  # noqa: B006
    return [(f.kind, f.severity) for f in report_of(medicines(), lines, allergies, others).findings]


# --- allergies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("medicine", "to", "kind"),
    [
        (text("Amoxicillin 500 MG Oral Capsule"), text("amoxicillin"), "allergy"),
        (text("AMOXICILLIN 500 mg"), coded(RXNORM, "723"), "allergy"),
        (coded(ATC, "J01CA04"), coded(RXNORM, "723"), "allergy"),
        (text("Amoxicillin"), text("Penicillin"), "allergy"),
        (text("Amoxicillin"), coded(SNOMED, "373270004"), "allergy"),
        (coded(ATC, "J01CF05"), coded(RXNORM, "7984"), "allergy"),
        (text("Ibuprofen 400 MG"), text("Aspirin"), "allergy"),
        (text("Ibuprofen 400 MG"), text("Non-steroidal anti-inflammatory agents: NSAIDs"), "allergy"),
        (text("Cefalexin"), text("Penicillin"), "related-allergy"),
        (text("Amoxicillin"), coded(ATC, "J01DB"), "related-allergy"),
        (text("Sulfamethoxazole / Trimethoprim"), text("sulfa drugs"), "allergy"),
        (text("Zanubrutinib 80 MG"), text("zanubrutinib"), "allergy"),
        (coded("urn:own", "1"), coded("urn:own", "1"), "allergy"),
        (text("Paracétamol 500 mg"), text("PARACETAMOL"), "allergy"),
    ],
)
def test_an_allergy_is_found_by_ingredient_class_code_and_words(medicine: Json, to: Json, kind: str) -> None:
    severity = "high" if kind == "allergy" else "moderate"
    assert (kind, severity) in found([line(medicine)], [allergy(to)])


@pytest.mark.parametrize(
    ("medicine", "to"),
    [
        (text("Azithromycin 250 MG"), text("Penicillin")),
        (text("Paracetamol 500 MG"), text("Aspirin")),
        (text("Amoxicillin"), text("House dust mite")),
        (text("Zanubrutinib"), text("nut")),
        (text("Penicillamine 250 MG"), text("Penicillin")),
    ],
)
def test_another_allergy_is_none(medicine: Json, to: Json) -> None:
    assert [row for row in found([line(medicine)], [allergy(to)]) if "allergy" in row[0]] == []


@pytest.mark.parametrize(
    "content",
    [
        {"clinicalStatus": coded("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "resolved")},
        {
            "verificationStatus": coded(
                "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "refuted"
            )
        },
        {"code": coded(SNOMED, "716186003", "No known allergy")},
    ],
)
def test_what_is_over_or_none_is_not_counted(clinic: Clinic, content: Json) -> None:
    with_one(clinic, {"code": text("amoxicillin"), **content}, [])


@pytest.mark.parametrize(
    "content",
    [
        {"code": text("amoxicillin")},
        {"code": text("antibiotic"), "reaction": [{"substance": text("amoxicillin"), "manifestation": [text("rash")]}]},
    ],
)
def test_an_allergy_of_the_record_interrupts(clinic: Clinic, content: Json) -> None:
    with_one(clinic, content, ["ALGY"])


def with_one(clinic: Clinic, content: Json, codes: list[str]) -> None:
    """What `$check` finds where a patient has one AllergyIntolerance."""
    patient = clinic.put("Patient", generalPractitioner=[{"reference": clinic.names["doctor"]}])
    clinic.put("AllergyIntolerance", **{"clinicalStatus": ACTIVE, "patient": {"reference": patient}, **content})
    checked = clinic.do("doctor", clinic.drafted(subject={"reference": patient}), "check")
    assert [issue["code"]["coding"][0]["code"] for issue in all_of(checked, "issue")] == codes
    assert values(checked)["interrupts"] is bool(codes)


# --- duplicates and interactions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Ibuprofen 400 MG", "Ibuprofen 200 MG", [("duplicate", "moderate")]),
        ("Ibuprofen 400 MG", "Naproxen 220 MG", [("duplicate-class", "moderate")]),
        ("Ibuprofen 400 MG", "Warfarin 5 MG", [("interaction", "high")]),
        ("Warfarin 5 MG", "Ibuprofen 400 MG", [("interaction", "high")]),
        ("Sertraline 50 MG", "Phenelzine 15 MG", [("interaction", "high")]),
        ("Sildenafil 50 MG", "Nitroglycerin 0.4 MG/ACTUAT Mucosal Spray", [("interaction", "high")]),
        ("Lisinopril 10 MG", "Losartan 50 MG", [("interaction", "high")]),
        ("Lisinopril 10 MG", "Metformin 500 MG", []),
        ("Zanubrutinib", "Ibuprofen 400 MG", []),
    ],
)
def test_medicines_that_do_not_go_together_are_found_either_way(
    one: str, other: str, expected: list[tuple[str, str]]
) -> None:
    assert found([line(text(one))], [], [line(text(other), "MedicationRequest/2")]) == expected
    assert found([line(text(other))], [], [line(text(one), "MedicationRequest/2")]) == expected
    assert found([line(text(one)), line(text(other), "MedicationRequest/2")]) == expected


def test_every_pair_of_the_table_is_found() -> None:
    table = medicines()
    assert len(table.interactions) >= 30

    def example(name: str) -> str:
        return (
            name if name in table.ingredients else min(i.name for i in table.ingredients.values() if name in i.classes)
        )

    for one, other, why in table.interactions:
        pair = [line(text(example(one))), line(text(example(other)), "MedicationRequest/2")]
        details = [f.detail for f in report_of(table, pair, [], []).findings if f.kind == "interaction"]
        assert details, (one, other)
        assert why
        assert all(detail.endswith(".") for detail in details)


def test_a_table_that_names_what_it_does_not_have_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "medicines.toml"
    wrong.write_text(
        table_of.DATA.read_text("utf-8").replace('pair = ["warfarin", "nsaids"]', 'pair = ["warfarin", "x"]')
    )
    with pytest.raises(ValueError, match="names x"):
        table_of.read(wrong)
    wrong.write_text(table_of.DATA.read_text("utf-8").replace('most = "4 g"', 'most = "4 spoons"', 1))
    with pytest.raises(ValueError, match="no amount"):
        table_of.read(wrong)


# --- doses ----------------------------------------------------------------------------------------------------------


def dosage(value: float | str, unit: str, repeat: Json, **more: Any) -> Json:
    quantity = {"value": Decimal(str(value)), "unit": unit, "code": unit}
    return {"doseAndRate": [{"doseQuantity": quantity}], "timing": {"repeat": repeat}, **more}


DAILY = {"frequency": 3, "period": 1, "periodUnit": "d"}


@pytest.mark.parametrize(
    ("instructions", "grams"),
    [
        ([dosage(1000, "mg", DAILY)], "3"),
        ([dosage(1, "g", {"frequency": 1, "frequencyMax": 2, "period": 12, "periodUnit": "h"})], "4"),
        ([dosage(500, "mg", {"period": 6, "periodUnit": "h"})], "2"),
        ([dosage(7, "g", {"frequency": 1, "period": 1, "periodUnit": "wk"})], "1"),
        ([dosage(500, "mg", {"timeOfDay": ["08:00:00", "20:00:00"]})], "1"),
        ([dosage(500, "mg", {"when": ["CM", "CV"]})], "1"),
        ([dosage(1, "{tablet}", DAILY)], "1.5"),
        ([dosage(1, "tablet", DAILY), dosage(1, "g", DAILY)], "4.5"),
        ([dosage(1, "g", DAILY, sequence=1), dosage(2, "g", DAILY, sequence=2)], "6"),
        (
            [
                {
                    "doseAndRate": [{"doseRange": {"high": {"value": 2, "code": "g"}}}],
                    "timing": {"code": {"coding": [{"code": "BID"}]}},
                }
            ],
            "4",
        ),
    ],
)
def test_the_amount_of_a_day(instructions: list[Json], grams: str) -> None:
    amount = daily(instructions, {"value": Decimal(500), "code": "mg"})
    assert (amount.value, amount.unit) == (Decimal(grams), "g")


@pytest.mark.parametrize(
    ("instructions", "told"),
    [
        ([], "no dosage"),
        ([{"text": "as you like"}], "in words"),
        ([dosage(1, "spoon", DAILY)], "none of UCUM"),
        ([dosage(1, "tablet", DAILY)], "what one piece holds"),
        ([dosage(1, "g", {})], "how often"),
        ([dosage(1, "g", DAILY), dosage(1, "mL", DAILY)], "added up"),
        ([{"doseAndRate": [{"doseQuantity": {"unit": "mg"}}], "timing": {"repeat": DAILY}}], "no number"),
    ],
)
def test_what_a_dosage_does_not_tell_is_said(instructions: list[Json], told: str) -> None:
    with pytest.raises(UnclearError, match=told):
        daily(instructions, None)


def test_the_strength_is_read_where_the_name_tells_exactly_one() -> None:
    assert strength_in("Ibuprofen 400 MG Oral Tablet") == {"value": Decimal(400), "code": "mg"}
    for label in (
        "Acetaminophen 300 MG / Codeine 15 MG",
        "Amoxicillin 50 MG/ML",
        "Ibuprofen",
        "Salbutamol 0.09 MG/ACTUAT",
    ):
        assert strength_in(label) is None


def test_a_dose_above_the_highest_interrupts_and_one_below_does_not() -> None:
    four = line(text("Paracetamol 500 MG"), instructions=[dosage(1, "g", {"period": 6, "periodUnit": "h"})])
    assert found([four]) == []
    more = line(text("Paracetamol 500 MG"), instructions=[dosage(1, "g", {"period": 4, "periodUnit": "h"})])
    assert found([more]) == [("dose", "high")]
    tablets = line(
        text("Paracetamol 500 MG"),
        instructions=[dosage(3, "{tablet}", DAILY)],
        strength=strength_in("Paracetamol 500 MG"),
    )
    assert found([tablets]) == [("dose", "high")]


# --- honesty --------------------------------------------------------------------------------------------------------


def test_what_was_not_checked_is_said() -> None:
    lines = [line(text("Zanubrutinib 80 MG"))]
    report = report_of(medicines(), lines, [allergy(text("Wunderol"), category=("medication",))], [line(text("Herb"))])
    told = "\n".join(report.unchecked)
    for words in (
        "Zanubrutinib 80 MG: the table does not know it",
        "allergy Wunderol",
        "together with Herb",
        "Coverage: ",
    ):
        assert words in told
    assert "no highest dose" in told
    several = report_of(medicines(), [line(text("Ibuprofen 200 MG / Paracetamol 500 MG"))], [], [])
    assert any("several ingredients" in one for one in several.unchecked)
    unclear = report_of(medicines(), [line(text("Ibuprofen 200 MG"), instructions=[{"text": "one"}])], [], [])
    assert any("in words only" in one for one in unclear.unchecked)


def test_what_the_doctors_access_hides_is_said_not_to_be_looked_at(clinic: Clinic) -> None:
    address = clinic.drafted()
    told = all_of(clinic.do("doctor", address, "check"), "not-checked")
    assert any("your access does not show" in one for one in told)
    told = all_of(clinic.do("operator", address, "check"), "not-checked")
    assert not any("your access does not show" in one for one in told)


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_what_is_severe_stops_the_signature_until_there_is_a_reason_which_is_kept(clinic: Clinic) -> None:
    patient = clinic.put("Patient", generalPractitioner=[{"reference": clinic.names["doctor"]}])
    subject = {"reference": patient}
    other = clinic.put("AllergyIntolerance", clinicalStatus=ACTIVE, patient=subject, code=text("Penicillin"))
    clinic.put(
        "MedicationRequest",
        **{**clinic.order("Amoxicillin 250 MG", subject={"reference": patient}), "status": "active"},
    )
    address = clinic.drafted(subject={"reference": patient})
    checked = clinic.do("doctor", address, "check")
    issues = {one["code"]["coding"][0]["code"]: one for one in all_of(checked, "issue")}
    assert issues.keys() == {"ALGY", "DUPTHPGEN"}
    assert issues["ALGY"]["severity"] == "high"
    assert {one["reference"] for one in issues["ALGY"]["implicated"]} == {address, other}
    assert clinic.found(f"DetectedIssue?patient={patient}") == [], "asking stores nothing"
    refused = clinic.call("doctor", "POST", f"{address}/$sign")
    assert (refused.status_code, key_of(refused)) == (422, "HS-RX-ISSUE")
    number = issues["ALGY"]["identifier"][0]["value"]
    assert number in refused.json()["issue"][0]["diagnostics"]
    assert clinic.get(address)["status"] == "draft"

    def override(issue: str, reason: str) -> Json:
        return {"part": [{"name": "issue", "valueString": issue}, {"name": "reason", "valueString": reason}]}

    for wrong, key, status in (
        (override(number, " "), "HS-OP-PARAMETER", 400),
        (override("allergy-0", "no"), "HS-RX-ISSUE", 422),
        ([override(number, "x"), override("allergy-0", "no")], "HS-RX-OVERRIDE", 422),
    ):
        answer = clinic.call("doctor", "POST", f"{address}/$sign", given(override=wrong))
        assert (answer.status_code, key_of(answer)) == (status, key)
    clinic.do("doctor", address, "sign", override=override(number, "tolerated since 2024"))
    kept = {one["code"]["coding"][0]["code"]: one for one in clinic.found(f"DetectedIssue?patient={patient}")}
    assert kept.keys() == {"ALGY", "DUPTHPGEN"}
    (mitigation,) = kept["ALGY"]["mitigation"]
    assert mitigation["action"] == {"text": "tolerated since 2024"}
    assert mitigation["author"] == {"reference": clinic.names["doctor"]}
    assert "mitigation" not in kept["DUPTHPGEN"]


def test_the_medicines_of_a_group_are_looked_at_together(clinic: Clinic) -> None:
    group = {"system": "urn:test:group", "value": "together"}
    clinic.drafted("Warfarin 5 MG", groupIdentifier=group)
    clinic.drafted("Ibuprofen 400 MG", groupIdentifier=group)
    answer = clinic.call("doctor", "POST", "MedicationRequest/$check", given(group=group))
    assert [one["code"]["coding"][0]["code"] for one in all_of(answer.json(), "issue")] == ["DRG"]


@pytest.mark.parametrize("contained", [True, False])
def test_a_medication_of_its_own_is_read(clinic: Clinic, contained: bool) -> None:
    strength = {
        "numerator": {"value": 2, "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"},
        "denominator": {"value": 1, "unit": "tablet"},
    }
    medication: Json = {
        "resourceType": "Medication",
        "id": "m",
        "code": text("Pain killer"),
        "ingredient": [{"itemCodeableConcept": coded(RXNORM, "161"), "strength": strength}],
    }
    reference = (
        "#m"
        if contained
        else clinic.put(
            **{"resource_type": "Medication"},
            **{k: v for k, v in medication.items() if k not in ("id", "resourceType")},
        )
    )
    order = clinic.order(medicationReference={"reference": reference})
    order.pop("medicationCodeableConcept")
    order["dosageInstruction"] = [
        {
            "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "tablet"}}],
            "timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}},
        }
    ]
    if contained:
        order["contained"] = [medication]
    answer = clinic.call("doctor", "POST", "MedicationRequest", order)
    assert answer.status_code == 201, answer.text
    checked = clinic.do("doctor", f"MedicationRequest/{answer.json()['id']}", "check")
    codes = [one["code"]["coding"][0]["code"] for one in all_of(checked, "issue")]
    assert "DOSEH" in codes
