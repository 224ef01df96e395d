"""Papers that the server issues: what stands on them, and that their signatures hold."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pypdfium2
import pytest

from tests.resources.document.conftest import DOCTOR, PATIENT, Clinic, pdf_of
from tests.resources.document.test_quarantine import mark_of, sent, url_of

Json = dict[str, Any]


def text_of(data: bytes) -> str:
    return "\n".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(BytesIO(data)))


def asked(**values: str) -> Json:
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueString": value} for name, value in values.items()],
    }


@pytest.fixture(scope="module")
def encounter(clinic: Clinic) -> str:
    """A visit with what was found in it, and what was not."""
    here = {"reference": "Encounter/visit"}
    about = {"subject": {"reference": PATIENT}, "encounter": here}
    code = {"text": "Grippe, άλγος, боль"}
    bundle = [
        {"resourceType": "Encounter", "id": "visit", "status": "finished", "class": {"code": "AMB"},
         "subject": {"reference": PATIENT}, "participant": [{"individual": {"reference": DOCTOR}}],
         "period": {"start": "2026-11-20T09:00:00Z", "end": "2026-11-20T09:20:00Z"}},
        {"resourceType": "Condition", "id": "flu", "code": code, **about},
        {"resourceType": "Observation", "id": "fever", "status": "final", "code": {"text": "Temperature"},
         "valueQuantity": {"value": 38.5, "unit": "°C"}, **about},
        {"resourceType": "Observation", "id": "wrong", "status": "entered-in-error", "code": {"text": "Mistaken"},
         **about},
        {"resourceType": "Observation", "id": "hidden", "status": "final",
         "code": {"text": "Confidential"},
         "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]},
         **about},
        {"resourceType": "Encounter", "id": "planned", "status": "planned", "class": {"code": "AMB"},
         "subject": {"reference": PATIENT}},
    ]  # fmt: skip
    with clinic.as_("operator") as operator:
        for one in bundle:
            answer = operator.put(f"{one['resourceType']}/{one['id']}", json=one)
            assert answer.status_code == 201, answer.text
    return "Encounter/visit"


def test_a_visit_is_summed_up_on_a_signed_paper_as_the_doctor_sees_it(clinic: Clinic, encounter: str) -> None:
    with clinic.as_("dora") as dora, clinic.as_("ann") as ann:
        made = dora.post(f"{encounter}/$summary-pdf", json=asked(note="Drink a lot"))
        assert made.status_code == 201, made.text
        document = made.json()
        assert (document["docStatus"], mark_of(document)) == ("final", "issued")
        assert document["author"] == [{"reference": DOCTOR}]
        assert document["context"]["encounter"] == [{"reference": encounter}]
        data = ann.get(url_of(document)).content
        text = text_of(data)
        for there in ("Zoë Ånn", "1980-02-29", "Dr. Dora", "Grippe, άλγος, боль", "38.5 °C", "Drink a lot"):
            assert there in text
        for hidden in ("Mistaken", "Confidential"):
            assert hidden not in text
        worth = ann.get(f"DocumentReference/{document['id']}/$verify-signature").json()["parameter"]
        signature = {part["name"]: part for part in worth[1]["part"]}
        assert worth[0]["valueBoolean"] is True
        assert (signature["valid"]["valueBoolean"], signature["whole"]["valueBoolean"]) == (True, True)
        assert "Dr. Dora" in signature["reason"]["valueString"]


def test_only_who_cares_for_the_patient_issues_papers_and_of_visits_that_were(clinic: Clinic, encounter: str) -> None:
    with clinic.as_("ann") as ann, clinic.as_("sam") as sam, clinic.as_("dora") as dora:
        assert ann.post(f"{encounter}/$summary-pdf", json=asked()).status_code == 403
        assert sam.post(f"{encounter}/$summary-pdf", json=asked()).status_code == 404
        assert sam.post(f"{PATIENT}/$certificate", json=asked(kind="fitness")).status_code == 404
        planned = dora.post("Encounter/planned/$summary-pdf", json=asked())
        assert (planned.status_code, "HS-DOCUMENT-VISIT" in planned.text) == (409, True)


def test_a_certificate_says_what_is_certified_and_can_be_replaced(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora:
        first = dora.post(
            f"{PATIENT}/$certificate",
            json=asked(kind="unfit-for-work", start="2026-11-20", end="2026-11-25", text="No lifting."),
        )
        assert first.status_code == 201, first.text
        text = text_of(dora.get(url_of(first.json())).content)
        assert "is unfit for work from 2026-11-20 until 2026-11-25." in " ".join(text.split())
        assert "No lifting." in text
        where = f"DocumentReference/{first.json()['id']}"
        second = dora.post(f"{PATIENT}/$certificate", json=asked(kind="fitness", replaces=where))
        assert second.status_code == 201, second.text
        assert dora.get(where).json()["status"] == "superseded"


@pytest.mark.parametrize(
    "values",
    [{}, {"kind": "magic"}, {"kind": "fitness", "start": "yesterday"},
     {"kind": "fitness", "start": "2026-02-02", "end": "2026-02-01"}, {"kind": "fitness", "colour": "red"}],
)  # fmt: skip
def test_a_certificate_of_nonsense_is_refused(clinic: Clinic, values: Json) -> None:
    with clinic.as_("dora") as dora:
        assert dora.post(f"{PATIENT}/$certificate", json=asked(**values)).status_code == 400


def test_a_paper_of_elsewhere_is_not_signed_by_this_server(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        document = sent(ann, pdf_of(), "application/pdf")
        worth = ann.get(f"DocumentReference/{document['id']}/$verify-signature").json()["parameter"]
        assert worth == [{"name": "signed", "valueBoolean": False}]
        note = sent(ann, b"a note")
        refused = ann.get(f"DocumentReference/{note['id']}/$verify-signature")
        assert (refused.status_code, "HS-DOCUMENT-SIGNATURE" in refused.text) == (422, True)
