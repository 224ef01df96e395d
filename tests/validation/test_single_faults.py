"""One fault put into a valid resource gives exactly one issue, with its key and its place.

A fault may break an invariant as well, which then says what the fault has made of the whole.
"""

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.model.codec import Json
from fhir_server.validation import Validator

DROP = object()
ABSENT = "HS-VAL-REQUIRED"
TYPE = "HS-VAL-JSON-TYPE"
UNKNOWN = "HS-VAL-UNKNOWN"
BOUND = "HS-VAL-BINDING"
EMPTY = "HS-VAL-EMPTY"
NULL = "HS-VAL-NULL"
TARGET = "HS-VAL-TARGET"
REFERENCE = "HS-VAL-REFERENCE"
INVARIANT = "HS-VAL-INVARIANT"
ABSENCE = {"url": "http://example.org/absent", "valueCode": "unknown"}
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

#: type, place of the change (steps by "/"), new value or DROP, expected key, expected FHIRPath below the type
FAULTS: list[tuple[str, str, Any, str, str]] = [
    ("Patient", "nmae", [{"family": "x"}], UNKNOWN, "nmae"),
    ("Patient", "not a name", 1, UNKNOWN, "`not a name`"),
    ("Patient", "_name", [{"id": "x"}], UNKNOWN, "_name"),
    ("Patient", "_id", {"ids": "x"}, UNKNOWN, "id.ids"),
    ("Patient", "name/0/resourceType", "HumanName", UNKNOWN, "name[0].resourceType"),
    ("Patient", "name/0/familyName", "x", UNKNOWN, "name[0].familyName"),
    ("Patient", "contact/0/name/familly", "x", UNKNOWN, "contact[0].name.familly"),
    ("Patient", "_birthDate/value", "x", UNKNOWN, "birthDate.value"),
    ("Patient", "name", {"family": "Shaw"}, TYPE, "name"),
    ("Patient", "name/0", "Shaw", TYPE, "name[0]"),
    ("Patient", "name/0", None, NULL, "name[0]"),
    ("Patient", "name/0", {}, EMPTY, "name[0]"),
    ("Patient", "name", [], EMPTY, "name"),
    ("Patient", "name/0/family", ["Shaw"], TYPE, "name[0].family"),
    ("Patient", "name/0/family", "", EMPTY, "name[0].family"),
    ("Patient", "name/0/family", None, NULL, "name[0].family"),
    ("Patient", "name/0/family", "a\x00b", "HS-VAL-CHARACTER", "name[0].family"),
    ("Patient", "name/0/family", "a\ud800", "HS-VAL-CHARACTER", "name[0].family"),
    ("Patient", "name/0/family", "x" * 1_048_577, "HS-VAL-STRING", "name[0].family"),
    ("Patient", "name/0/given/0", 1, TYPE, "name[0].given[0]"),
    ("Patient", "name/0/given/0", None, NULL, "name[0].given[0]"),
    ("Patient", "name/0/given", ["Amy"], "HS-VAL-TWIN-LENGTH", "name[0].given"),
    ("Patient", "name/0/_given", DROP, NULL, "name[0].given[1]"),
    ("Patient", "contact/0/name/_given", {"id": "x"}, TYPE, "contact[0].name.given"),
    ("Patient", "name/0/_given/1", "x", TYPE, "name[0].given[1]"),
    ("Patient", "name/0/given", DROP, NULL, "name[0].given[0]"),
    ("Patient", "name/0/use", "formal", BOUND, "name[0].use"),
    ("Patient", "birthDate", "1987-02-30", "HS-VAL-DATE", "birthDate"),
    ("Patient", "birthDate", "1987-2-3", "HS-VAL-DATE", "birthDate"),
    ("Patient", "birthDate", 1987, TYPE, "birthDate"),
    ("Patient", "_birthDate/extension/0/url", DROP, ABSENT, "birthDate.extension[0].url"),
    ("Patient", "_birthDate", {}, EMPTY, "birthDate"),
    ("Patient", "gender", "Female", BOUND, "gender"),
    ("Patient", "gender", " female", "HS-VAL-CODE", "gender"),
    ("Patient", "active", "true", TYPE, "active"),
    ("Patient", "active", 1, TYPE, "active"),
    ("Patient", "id", "a b", "HS-VAL-ID", "id"),
    ("Patient", "id", "x" * 65, "HS-VAL-ID", "id"),
    ("Patient", "id", "a\n", "HS-VAL-ID", "id"),
    ("Patient", "meta/lastUpdated", "2024-02-29", "HS-VAL-INSTANT", "meta.lastUpdated"),
    ("Patient", "meta/lastUpdated", "2023-02-29T10:00:00Z", "HS-VAL-INSTANT", "meta.lastUpdated"),
    ("Patient", "meta/profile/0", "http://example.org/a b", "HS-VAL-URI", "meta.profile[0]"),
    ("Patient", "language", "english (UK)", BOUND, "language"),
    ("Patient", "deceasedBoolean", "no", TYPE, "deceased"),
    ("Patient", "multipleBirthBoolean", True, "HS-VAL-CHOICE", "multipleBirth"),
    ("Patient", "_multipleBirthBoolean", {"extension": [ABSENCE]}, "HS-VAL-CHOICE", "multipleBirth"),
    ("Patient", "multipleBirthString", "two", UNKNOWN, "multipleBirthString"),
    ("Patient", "multipleBirthInteger", 2**31, "HS-VAL-INTEGER", "multipleBirth"),
    ("Patient", "multipleBirthInteger", Decimal("1.0"), TYPE, "multipleBirth"),
    ("Patient", "telecom/0/rank", 0, "HS-VAL-POSITIVE-INT", "telecom[0].rank"),
    ("Patient", "extension/0/url", DROP, ABSENT, "extension[0].url"),
    ("Patient", "extension/0/valueString", "x", "HS-VAL-EXTENSION", "extension[0]"),
    ("Patient", "extension/0/extension", DROP, "HS-VAL-EXTENSION", "extension[0]"),
    ("Patient", "extension/0/_url", {"id": "x"}, UNKNOWN, "extension[0]._url"),
    ("Patient", "extension/0/extension/0/valueInteger", 1, "HS-VAL-CHOICE", "extension[0].extension[0].value"),
    ("Patient", "generalPractitioner/0/reference", "Patient/1", TARGET, "generalPractitioner[0].reference"),
    ("Patient", "generalPractitioner/0/reference", "Doctor/1", REFERENCE, "generalPractitioner[0].reference"),
    ("Patient", "generalPractitioner/0/reference", "Practitioner/a b", REFERENCE, "generalPractitioner[0].reference"),
    ("Patient", "generalPractitioner/0/reference", "1", REFERENCE, "generalPractitioner[0].reference"),
    ("Patient", "generalPractitioner/0/type", "Patient", "HS-VAL-REFERENCE-TYPE", "generalPractitioner[0].type"),
    ("Patient", "managingOrganization", {"type": "Patient"}, TARGET, "managingOrganization.type"),
    ("Patient", "managingOrganization/reference", "#o", "HS-VAL-FRAGMENT", "managingOrganization.reference"),
    ("Patient", "link/0/other", DROP, ABSENT, "link[0].other"),
    ("Patient", "link/0/type", "twin", BOUND, "link[0].type"),
    ("Patient", "communication/0/language", DROP, ABSENT, "communication[0].language"),
    ("Patient", "text/div", f"<div {XHTML}><script>x</script></div>", "HS-VAL-NARRATIVE-ELEMENT", "text.div"),
    ("Patient", "text/div", f"<div {XHTML}>", "HS-VAL-NARRATIVE-XML", "text.div"),
    ("Patient", "text/div", DROP, ABSENT, "text.div"),
    ("Patient", "text/_div", {"id": "x"}, UNKNOWN, "text._div"),
    ("Patient", "text/status", "made", BOUND, "text.status"),
    ("Observation", "status", DROP, ABSENT, "status"),
    ("Observation", "status", "done", BOUND, "status"),
    ("Observation", "code", DROP, ABSENT, "code"),
    ("Observation", "code", "85354-9", TYPE, "code"),
    ("Observation", "code/coding/0/userSelected", "yes", TYPE, "code.coding[0].userSelected"),
    ("Observation", "valueString", "high", "HS-VAL-CHOICE", "value"),
    ("Observation", "valueQuantity/value", "1", TYPE, "value.value"),
    ("Observation", "valueQuantity/value", True, TYPE, "value.value"),
    ("Observation", "valueQuantity/value", 1.5, TYPE, "value.value"),
    ("Observation", "valueQuantity/value", Decimal("1E+4000"), "HS-VAL-DECIMAL", "value.value"),
    ("Observation", "valueQuantity/comparator", "=", BOUND, "value.comparator"),
    ("Observation", "valueQuantity/units", "mg", UNKNOWN, "value.units"),
    ("Observation", "effectiveDateTime", "2024-05-01T10:00Z", "HS-VAL-DATETIME", "effective"),
    ("Observation", "effectiveDateTime", "2024-05-01T10:00:00", "HS-VAL-DATETIME", "effective"),
    ("Observation", "effectiveDateTime", "2024-05-01T24:00:00Z", "HS-VAL-DATETIME", "effective"),
    ("Observation", "effectiveDateTime", "2024-04-31T10:00:00Z", "HS-VAL-DATETIME", "effective"),
    ("Observation", "issued", "2024-05-01", "HS-VAL-INSTANT", "issued"),
    ("Observation", "subject/reference", "Practitioner/1", TARGET, "subject.reference"),
    ("Observation", "subject/reference", "Patient?identifier=1", "HS-VAL-CONDITIONAL", "subject.reference"),
    ("Observation", "component/0/valueSampledData/origin", DROP, ABSENT, "component[0].value.origin"),
    ("Observation", "component/0/referenceRange/0/txt", "x", UNKNOWN, "component[0].referenceRange[0].txt"),
    ("Encounter", "class", DROP, ABSENT, "class"),
    ("Encounter", "class", {"system": 5, "code": "AMB"}, TYPE, "class.system"),
    ("Encounter", "period/start", "2024-13-01", "HS-VAL-DATETIME", "period.start"),
    ("Encounter", "participant/0/individual/reference", "Patient/1", TARGET, "participant[0].individual.reference"),
    ("Encounter", "location/0/location", DROP, ABSENT, "location[0].location"),
    ("Encounter", "hospitalization", [{"id": "x"}], TYPE, "hospitalization"),
    ("Condition", "subject", DROP, ABSENT, "subject"),
    ("Condition", "clinicalStatus/coding/0/code", "ill", BOUND, "clinicalStatus"),
    ("Condition", "clinicalStatus/coding/0/system", DROP, BOUND, "clinicalStatus"),
    ("Condition", "clinicalStatus", {"text": "active"}, BOUND, "clinicalStatus"),
    ("Condition", "onsetString", "early", "HS-VAL-CHOICE", "onset"),
    ("Condition", "note/0/text", DROP, ABSENT, "note[0].text"),
    ("MedicationRequest", "medicationCodeableConcept", DROP, ABSENT, "medication"),
    ("MedicationRequest", "intent", "wish", BOUND, "intent"),
    ("MedicationRequest", "dosageInstruction/0/sequence", "1", TYPE, "dosageInstruction[0].sequence"),
    (
        "MedicationRequest",
        "dosageInstruction/0/timing/repeat/periodUnit",
        "days",
        BOUND,
        "dosageInstruction[0].timing.repeat.periodUnit",
    ),
    (
        "MedicationRequest",
        "dosageInstruction/0/timing/repeat/timeOfDay/0",
        "25:00:00",
        "HS-VAL-TIME",
        "dosageInstruction[0].timing.repeat.timeOfDay[0]",
    ),
    (
        "MedicationRequest",
        "dispenseRequest/numberOfRepeatsAllowed",
        -1,
        "HS-VAL-UNSIGNED-INT",
        "dispenseRequest.numberOfRepeatsAllowed",
    ),
    ("Claim", "insurance", DROP, ABSENT, "insurance"),
    ("Claim", "insurance/0/focal", DROP, ABSENT, "insurance[0].focal"),
    ("Claim", "total/currency", "dollar", BOUND, "total.currency"),
    ("Claim", "item/0/detail/0/productOrService", DROP, ABSENT, "item[0].detail[0].productOrService"),
    ("Claim", "item/0/sequence", 0, "HS-VAL-POSITIVE-INT", "item[0].sequence"),
    ("Claim", "use", "bill", BOUND, "use"),
    ("Questionnaire", "item/0/item/0/linkId", DROP, ABSENT, "item[0].item[0].linkId"),
    ("Questionnaire", "item/0/item/0/type", "question", BOUND, "item[0].item[0].type"),
    ("Questionnaire", "item/0/item/0/enableWhen/0/answerDecimal", DROP, ABSENT, "item[0].item[0].enableWhen[0].answer"),
    (
        "Questionnaire",
        "item/0/item/0/answerOption/0/valueMoney",
        {"value": 1},
        UNKNOWN,
        "item[0].item[0].answerOption[0].valueMoney",
    ),
    ("Bundle", "timestamp", "2024", "HS-VAL-INSTANT", "timestamp"),
    ("Bundle", "entry/0/resource/gender", "m", BOUND, "entry[0].resource.gender"),
    ("Bundle", "entry/0/resource/resourceType", "Pacient", "HS-VAL-RESOURCE-TYPE", "entry[0].resource.resourceType"),
    ("Bundle", "entry/0/resource/resourceType", DROP, "HS-VAL-RESOURCE-TYPE", "entry[0].resource.resourceType"),
    ("Bundle", "entry/0/request/method", "post", BOUND, "entry[0].request.method"),
    ("Bundle", "entry/1/request/url", DROP, ABSENT, "entry[1].request.url"),
    ("Bundle", "type", "collection", "HS-VAL-CONDITIONAL", "entry[1].resource.subject.reference"),
    ("Bundle", "entry/1/resource/subject/reference", "Device1?x=1", REFERENCE, "entry[1].resource.subject.reference"),
    ("Bundle", "contained", [], UNKNOWN, "contained"),
    ("Parameters", "parameter/0/name", DROP, ABSENT, "parameter[0].name"),
    ("Parameters", "parameter/1/resource/active", 0, TYPE, "parameter[1].resource.active"),
    ("Parameters", "parameter/2/part/0/valueBase64Binary", "QUJ", "HS-VAL-BASE64", "parameter[2].part[0].value"),
    ("Parameters", "parameter/2/part/0/valueString", "x", "HS-VAL-CHOICE", "parameter[2].part[0].value"),
    ("MedicationAdministration", "contained/0/id", "other", "HS-VAL-FRAGMENT", "medication.reference"),
    ("MedicationAdministration", "subject/reference", "#med1", TARGET, "subject.reference"),
    ("MedicationAdministration", "contained/0/code", [], EMPTY, "contained[0].code"),
    (
        "MedicationAdministration",
        "contained/0/contained",
        [{"resourceType": "Patient", "id": "q"}],
        "HS-VAL-CONTAINED-NESTED",
        "contained[0].contained",
    ),
    ("MedicationAdministration", "effectivePeriod", DROP, ABSENT, "effective"),
    ("DocumentReference", "content", DROP, ABSENT, "content"),
    (
        "DocumentReference",
        "content/0/attachment/contentType",
        "text / plain",
        BOUND,
        "content[0].attachment.contentType",
    ),
    ("DocumentReference", "content/0/attachment/data", "SGVsbG8", "HS-VAL-BASE64", "content[0].attachment.data"),
    ("DocumentReference", "content/0/attachment/size", -5, "HS-VAL-UNSIGNED-INT", "content[0].attachment.size"),
    ("Appointment", "participant", DROP, ABSENT, "participant"),
    ("Appointment", "participant/0/status", DROP, ABSENT, "participant[0].status"),
    ("Appointment", "minutesDuration", 0, "HS-VAL-POSITIVE-INT", "minutesDuration"),
    ("AllergyIntolerance", "category/0", "animal", BOUND, "category[0]"),
    ("AllergyIntolerance", "category", "food", TYPE, "category"),
    ("AllergyIntolerance", "reaction/0/manifestation", DROP, ABSENT, "reaction[0].manifestation"),
    ("AllergyIntolerance", "patient/reference", "urn:uuid:1", REFERENCE, "patient.reference"),
    ("Location", "position/latitude", DROP, ABSENT, "position.latitude"),
    ("Location", "hoursOfOperation/0/daysOfWeek/1", "tuesday", BOUND, "hoursOfOperation[0].daysOfWeek[1]"),
    ("Location", "hoursOfOperation/0/openingTime", "8:00", "HS-VAL-TIME", "hoursOfOperation[0].openingTime"),
    (
        "Location",
        "managingOrganization/reference",
        "http://example.org/Patient/1",
        TARGET,
        "managingOrganization.reference",
    ),
    ("ValueSet", "compose/include/0/concept/0/code", DROP, ABSENT, "compose.include[0].concept[0].code"),
    ("ValueSet", "compose/include/1/filter/0/op", "like", BOUND, "compose.include[1].filter[0].op"),
    ("ValueSet", "expansion/contains/0/contains/0/kode", "b", UNKNOWN, "expansion.contains[0].contains[0].kode"),
    ("ImagingStudy", "series/0/uid", DROP, ABSENT, "series[0].uid"),
    ("ImagingStudy", "series/0/instance/0/number", "1", TYPE, "series[0].instance[0].number"),
    ("Binary", "contentType", DROP, ABSENT, "contentType"),
    ("Binary", "data", "SGVs*G8=", "HS-VAL-BASE64", "data"),
    ("Binary", "text", {"status": "empty"}, UNKNOWN, "text"),
]


def changed(resource: Json, place: str, value: Any) -> Json:
    """Put a value at a place (or drop what is there)."""
    *steps, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    node: Any = resource
    for step in steps:
        node = node[step]
    if value is DROP:
        del node[last]
    else:
        node[last] = value
    return resource


def test_the_table_is_wide() -> None:
    assert len(FAULTS) >= 120
    assert len({row[0] for row in FAULTS}) >= 15


def test_the_samples_are_valid(validator: Validator, samples: dict[str, Json]) -> None:
    assert [issue for sample in samples.values() for issue in validator.issues_of(sample)] == []


@pytest.mark.parametrize(
    ("name", "place", "value", "key", "path"),
    [pytest.param(*row, id=f"{row[0]}.{row[1]}-{index}") for index, row in enumerate(FAULTS)],
)
def test_a_single_fault_is_found_where_it_is(
    validator: Validator, samples: dict[str, Json], name: str, place: str, value: Any, key: str, path: str
) -> None:
    issues = [i for i in validator.issues_of(changed(samples[name], place, value)) if i.key != INVARIANT]
    assert [(issue.key, issue.expression) for issue in issues] == [(key, f"{name}.{path}")], issues
    assert issues[0].severity == ("warning" if key == TARGET else "error")
    assert "expected" in issues[0].diagnostics


def test_all_faults_are_told_at_once(validator: Validator, samples: dict[str, Json]) -> None:
    resource = samples["Patient"]
    changes = [("gender", "x"), ("birthDate", "y"), ("name/0/family", 1), ("link/0/other", DROP), ("bogus", 1)]
    for place, value in changes:
        changed(resource, place, value)
    assert [issue.expression for issue in validator.issues_of(resource)] == [
        "Patient.name[0].family",
        "Patient.gender",
        "Patient.birthDate",
        "Patient.link[0].other",
        "Patient.bogus",
    ]


def test_a_misspelt_element_gets_a_suggestion(validator: Validator) -> None:
    (issue,) = validator.issues_of({"resourceType": "Patient", "brithDate": "1987"})
    assert "did you mean birthDate?" in issue.diagnostics
    (issue,) = validator.issues_of({"resourceType": "Pateint"})
    assert "did you mean Patient?" in issue.diagnostics


def test_a_primitive_with_only_an_extension_is_present(validator: Validator, samples: dict[str, Json]) -> None:
    resource = samples["Observation"]
    del resource["status"]
    resource["_status"] = {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}
    assert validator.issues_of(resource) == []


def test_a_choice_with_only_an_extension_is_present(validator: Validator, samples: dict[str, Json]) -> None:
    resource = samples["MedicationRequest"]["dosageInstruction"][0]
    del resource["asNeededBoolean"]
    resource["_asNeededBoolean"] = {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}
    assert validator.issues_of(samples["MedicationRequest"]) == []


def test_a_string_of_white_space_is_advised_against_and_not_refused(validator: Validator) -> None:
    (issue,) = validator.issues_of({"resourceType": "Patient", "name": [{"family": "  "}]})
    assert (issue.severity, issue.key, issue.expression) == ("warning", "HS-VAL-BLANK", "Patient.name[0].family")


def test_a_document_that_is_all_faults_gives_a_limited_outcome(validator: Validator) -> None:
    resource: Json = {"resourceType": "Patient", **{f"x{i}": i for i in range(5000)}}
    issues = validator.issues_of(resource)
    assert len(issues) == 1001
    assert issues[-1].key == "HS-VAL-MORE"
    assert "4000" in issues[-1].diagnostics
