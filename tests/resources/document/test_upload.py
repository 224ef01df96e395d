"""Uploads: the four ways to send a document, what is refused, and what is stored of it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any

import pytest

from tests.resources.document.clamd import EICAR, FakeClamd
from tests.resources.document.conftest import PATIENT, Clinic, pdf_of, settled

Json = dict[str, Any]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000000000500"
    "01a5f645400000000049454e44ae426082"
)


def sha1_of(data: bytes) -> str:
    return b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def mark_of(document: Json) -> str:
    return next(tag["code"] for tag in document["meta"]["tag"] if tag["system"] == "urn:healthsphere:scan")


def attachment_of(document: Json) -> Json:
    found: Json = document["content"][0]["attachment"]
    return found


def test_bytes_become_a_document_with_size_hash_type_and_author(clinic: Clinic, letter: bytes) -> None:
    with clinic.as_("ann") as ann:
        made = ann.post(
            "DocumentReference/$upload",
            params={"patient": PATIENT, "title": "Letter", "type": "http://loinc.org|34133-9"},
            content=letter,
            headers={"Content-Type": "application/pdf"},
        )
        assert made.status_code == 201, made.text
        document = settled(ann, made.json())
        attachment = attachment_of(document)
        assert (attachment["size"], attachment["hash"]) == (len(letter), sha1_of(letter))
        assert (attachment["contentType"], attachment["title"]) == ("application/pdf", "Letter")
        assert document["author"] == [{"reference": PATIENT}]
        assert (document["status"], document["docStatus"], mark_of(document)) == ("current", "preliminary", "clean")
        got = ann.get(attachment["url"])
        assert (got.content, got.headers["X-Content-Scan"]) == (letter, "clean")
        assert got.headers["Content-Disposition"] == "attachment"
        assert "sandbox" in got.headers["Content-Security-Policy"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert f"/DocumentReference/{document['id']}/_history/" in made.headers["Location"]
        assert made.headers["X-Content-Location"] == f"{ann.base_url}{attachment['url']}"


@pytest.mark.parametrize("file_first", [True, False])
def test_a_form_of_a_browser_is_taken_whatever_its_order(clinic: Clinic, letter: bytes, file_first: bool) -> None:
    file = b'Content-Disposition: form-data; name="file"; filename="C:\\x\\my letter.pdf"\r\n'
    file += b"Content-Type: application/pdf\r\n\r\n" + letter + b"\r\n"
    field = b'Content-Disposition: form-data; name="patient"\r\n\r\nPatient/ann\r\n'
    parts = [file, field] if file_first else [field, file]
    body = b"".join(b"--frontier\r\n" + part for part in parts) + b"--frontier--\r\n"
    with clinic.as_("ann") as ann:
        made = ann.post(
            "DocumentReference/$upload",
            content=body,
            headers={"Content-Type": "multipart/form-data; boundary=frontier"},
        )
        assert made.status_code == 201, made.text
        attachment = attachment_of(settled(ann, made.json()))
        assert attachment["title"] == "my letter.pdf"
        assert ann.get(attachment["url"]).content == letter


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=\"patient\"\r\n\r\nPatient/ann\r\n--x--\r\n", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello", 400),
        (b"nonsense", 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nhello\r\n--x--\r\n", 400),
        (
            b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\nContent-Type: text/plain\r\n\r\nhi"
            b"\r\n--x\r\nContent-Disposition: form-data; name=\"colour\"\r\n\r\nred\r\n--x--\r\n",
            400,
        ),
    ],
    ids=["no file", "ends early", "no form", "no patient", "unknown field"],
)  # fmt: skip
def test_a_form_that_is_none_is_refused_and_leaves_nothing(clinic: Clinic, body: bytes, status: int) -> None:
    with clinic.as_("ann") as ann:
        answer = ann.post(
            "DocumentReference/$upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
    assert answer.status_code in (status, 415), answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def document_with(data: bytes, content_type: str = "application/pdf", **more: Any) -> Json:
    attachment = {"contentType": content_type, "data": b64encode(data).decode()}
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": PATIENT},
        "content": [{"attachment": attachment}],
        **more,
    }


@pytest.mark.parametrize("address", ["DocumentReference", "DocumentReference/$upload"])
def test_data_within_a_document_becomes_a_binary(clinic: Clinic, letter: bytes, address: str) -> None:
    """Simplified Publish [ITI-105]."""
    with clinic.as_("ann") as ann:
        made = ann.post(address, json=document_with(letter, author=[{"reference": PATIENT}]))
        assert made.status_code == 201, made.text
        attachment = attachment_of(settled(ann, made.json()))
        assert "data" not in attachment
        assert attachment["hash"] == sha1_of(letter)
        assert ann.get(attachment["url"]).content == letter


def test_a_system_publishes_by_the_profile_and_stores_records_of_elsewhere_as_they_are(
    clinic: Clinic, letter: bytes
) -> None:
    profile = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.SimplifiedPublish.DocumentReference"
    with clinic.as_("ehr") as ehr:
        as_it_is = ehr.post("DocumentReference", json=document_with(letter)).json()
        assert attachment_of(as_it_is)["data"] == b64encode(letter).decode()
        split = ehr.post("DocumentReference", json=document_with(letter, meta={"profile": [profile]}))
        assert split.status_code == 201, split.text
        assert "url" in attachment_of(split.json())


def test_a_document_with_data_is_refused_where_it_would_not_be_examined(clinic: Clinic, letter: bytes) -> None:
    document = document_with(letter, author=[{"reference": PATIENT}])
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": document, "request": {"method": "POST", "url": "DocumentReference"}}],
    }
    with clinic.as_("ann") as ann:
        refused = ann.post("", json=bundle)
        assert refused.status_code == 422
        assert "HS-DOCUMENT-INLINE" in refused.text


def test_a_content_that_lies_about_its_type_is_refused(clinic: Clinic, letter: bytes) -> None:
    with clinic.as_("ann") as ann:
        for said, data in [("image/png", letter), ("application/pdf", PNG), ("application/pdf", b"hello"),
                           ("text/plain", PNG)]:  # fmt: skip
            answer = ann.post(
                "DocumentReference/$upload",
                params={"patient": PATIENT},
                content=data,
                headers={"Content-Type": said},
            )
            assert (answer.status_code, "HS-DOCUMENT-TYPE" in answer.text) == (422, True), answer.text


def test_a_content_of_no_said_type_has_the_type_that_its_bytes_tell(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        made = ann.post(
            "DocumentReference/$upload",
            params={"patient": PATIENT},
            content=PNG,
            headers={"Content-Type": "application/octet-stream"},
        )
        assert attachment_of(made.json())["contentType"] == "image/png"


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/x-msdownload", "application/zip"])
def test_types_that_are_not_on_the_list_are_refused(clinic: Clinic, kind: str) -> None:
    data = b"PK\x03\x04" + bytes(100) if kind == "application/zip" else b"<svg/>"
    with clinic.as_("ann") as ann:
        answer = ann.post(
            "DocumentReference/$upload", params={"patient": PATIENT}, content=data, headers={"Content-Type": kind}
        )
    assert (answer.status_code, "HS-DOCUMENT-KIND" in answer.text) == (415, True), answer.text


def test_a_wrong_hash_an_empty_document_and_an_unknown_parameter_are_refused(clinic: Clinic, letter: bytes) -> None:
    def sent(data: bytes, **more: str) -> Any:
        with clinic.as_("ann") as ann:
            return ann.post(
                "DocumentReference/$upload",
                params={"patient": PATIENT, **more},
                content=data,
                headers={"Content-Type": "application/pdf"},
            )

    assert sent(letter, hash=sha1_of(letter)).status_code == 201
    assert "HS-DOCUMENT-HASH" in sent(letter, hash=sha1_of(b"other")).text
    assert "HS-DOCUMENT-EMPTY" in sent(b"").text or sent(b"").status_code == 400
    assert "HS-OP-UNKNOWN" in sent(letter, titel="x").text


def test_nobody_uploads_for_somebody_they_do_not_see(clinic: Clinic, letter: bytes) -> None:
    for name, patient in [("bob", PATIENT), ("sam", PATIENT), ("ann", "Patient/nobody")]:
        with clinic.as_(name) as somebody:
            answer = somebody.post(
                "DocumentReference/$upload",
                params={"patient": patient},
                content=letter,
                headers={"Content-Type": "application/pdf"},
            )
            assert answer.status_code == 404, answer.text
            answer = somebody.post(
                "DocumentReference/$upload", json=document_with(letter, subject={"reference": patient})
            )
            assert answer.status_code == 404, answer.text


def test_only_who_sees_the_document_sees_its_content(clinic: Clinic, letter: bytes) -> None:
    with clinic.as_("dora") as dora, clinic.as_("ann") as ann, clinic.as_("bob") as bob, clinic.as_("sam") as sam:
        made = dora.post(
            "DocumentReference/$upload",
            params={"patient": PATIENT, "label": "R"},
            content=letter,
            headers={"Content-Type": "application/pdf"},
        )
        assert made.status_code == 201, made.text
        url = attachment_of(settled(dora, made.json()))["url"]
        assert [c.get(url).status_code for c in (dora, ann, bob, sam)] == [200, 200, 404, 404]


def test_failed_uploads_leave_no_content_behind(clinic: Clinic, letter: bytes) -> None:
    async def count() -> int:
        return int(await clinic.server.context.repository.store.blobs._files.count_documents({}))

    before = clinic.server.run(count())
    with clinic.as_("ann") as ann:
        for said, params in [
            ("image/png", {"patient": PATIENT}),
            ("application/pdf", {"patient": PATIENT, "hash": "x"}),
        ]:
            answer = ann.post(
                "DocumentReference/$upload", params=params, content=letter, headers={"Content-Type": said}
            )
            assert answer.status_code == 422
    assert clinic.server.run(count()) == before


def test_without_a_scanner_a_document_says_that_nobody_looked(plain_clinic: Clinic, letter: bytes) -> None:
    with plain_clinic.as_("ann") as ann:
        made = ann.post(
            "DocumentReference/$upload",
            params={"patient": PATIENT},
            content=letter,
            headers={"Content-Type": "application/pdf"},
        ).json()
        made = settled(ann, made)
        assert mark_of(made) == "not-scanned"
        got = ann.get(attachment_of(made)["url"])
        assert (got.content, got.headers["X-Content-Scan"]) == (letter, "not-scanned")


@pytest.mark.parametrize("how", ["script", "inside"])
def test_a_pdf_that_does_things_by_itself_stays_in_quarantine(plain_clinic: Clinic, how: str) -> None:
    with plain_clinic.as_("ann") as ann:
        made = ann.post(
            "DocumentReference/$upload",
            params={"patient": PATIENT},
            content=pdf_of(script=how == "script", inside=how == "inside"),
            headers={"Content-Type": "application/pdf"},
        ).json()
        made = settled(ann, made)
        assert mark_of(made) == "active-content"
        assert ann.get(attachment_of(made)["url"]).status_code == 403


def test_a_document_says_of_its_content_what_the_server_found_and_nothing_else(clinic: Clinic, letter: bytes) -> None:
    with clinic.as_("ann") as ann:
        made = settled(ann, ann.post("DocumentReference/$upload", json=document_with(letter)).json())
        forged = json.loads(json.dumps(made))
        forged["meta"]["tag"] = [{"system": "urn:healthsphere:scan", "code": "released"}]
        again = ann.put(f"DocumentReference/{made['id']}", json=forged)
        assert again.status_code == 200, again.text
        assert mark_of(again.json()) == "clean"
        plain = {k: v for k, v in document_with(letter).items() if k != "content"} | {
            "content": [{"attachment": {"url": "https://elsewhere.example/x.pdf"}}],
            "author": [{"reference": PATIENT}],
            "meta": {"tag": [{"system": "urn:healthsphere:scan", "code": "clean"}]},
        }
        assert "tag" not in ann.post("DocumentReference", json=plain).json()["meta"]


def test_the_scanner_sees_every_byte(clinic: Clinic, clamd: FakeClamd, letter: bytes) -> None:
    before = len(clamd.seen)
    with clinic.as_("ann") as ann:
        settled(ann, ann.post("DocumentReference/$upload", json=document_with(letter + EICAR[:10])).json())
    assert len(letter) + 10 in clamd.seen[before:]
