"""Quarantine: nobody gets what is withheld, whatever way they go; what is found has its consequences."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import httpx
import pytest

from resources.document.examine import examine_due
from resources.document.examine import told as tell_of
from tests.resources.document.clamd import EICAR, LIMIT, FakeClamd
from tests.resources.document.conftest import DOCTOR, PATIENT, Clinic, pdf_of, settled
from tests.resources.told import Told

Json = dict[str, Any]
SECRET = EICAR + b" and words that nobody may read"
FHIR = {"Accept": "application/fhir+json"}


def sent(client: httpx.Client, data: bytes, kind: str = "text/plain", **params: str) -> Json:
    """A document that was uploaded, and examined."""
    return settled(client, sent_now(client, data, kind, **params))


def sent_now(client: httpx.Client, data: bytes, kind: str = "text/plain", **params: str) -> Json:
    made = client.post(
        "DocumentReference/$upload",
        params={"patient": PATIENT, **params},
        content=data,
        headers={"Content-Type": kind},
    )
    assert made.status_code == 201, made.text
    found: Json = made.json()
    return found


def mark_of(document: Json) -> str:
    return next(tag["code"] for tag in document["meta"]["tag"] if tag["system"] == "urn:healthsphere:scan")


def url_of(document: Json) -> str:
    return str(document["content"][0]["attachment"]["url"])


def tasks_about(clinic: Clinic, document: Json) -> dict[str, Json]:
    with clinic.as_("operator") as operator:
        found = operator.get("Task", params={"focus": f"DocumentReference/{document['id']}"}).json()
    tasks = [row["resource"] for row in found.get("entry", [])]
    assert len({task["code"]["coding"][0]["code"] for task in tasks}) == len(tasks), "one task of each kind"
    return {task["code"]["coding"][0]["code"]: task for task in tasks}


def test_an_infected_document_is_entered_in_error_and_everybody_concerned_hears(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        document = sent(ann, SECRET)
        assert (document["status"], mark_of(document)) == ("entered-in-error", "infected")
        refused = ann.get(url_of(document))
        assert (refused.status_code, "HS-BINARY-WITHHELD" in refused.text) == (403, True)
        tasks = tasks_about(clinic, document)
        assert tasks["review-document"]["status"] == "cancelled"
        assert tasks["document-refused"]["owner"] == {"reference": PATIENT}
        assert "Eicar-Test-Signature" in tasks["decide-quarantine"]["description"]
        assert ann.get(f"Task/{tasks['document-refused']['id']}").status_code == 200
        assert ann.get(f"Task/{tasks['decide-quarantine']['id']}").status_code == 404
    with clinic.as_("auditor") as auditor:
        assert auditor.get(f"Task/{tasks['decide-quarantine']['id']}").status_code == 200


def test_who_sent_it_and_who_is_to_look_have_one_event_and_one_mail(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann, clinic.as_("operator") as operator:
        news = Told(clinic.server, operator, PATIENT, DOCTOR)
        document = sent(ann, SECRET, review=DOCTOR)
        name = f"DocumentReference/{document['id']}"
        notice = tasks_about(clinic, document)["document-refused"]  # the process died before it had made this
        assert operator.delete(f"Task/{notice['id']}").status_code in (200, 204)
        for _ in range(2):
            clinic.server.run(tell_of(clinic.server.context, document["id"], document, "infected", ""))
        for person, kind in ((PATIENT, "document-refused"), (DOCTOR, "document-review")):
            assert news.events(person, name) == news.mails(person, name) == [(kind, name)]
        assert all("Eicar" not in letter.text for letter in news.letters)


DOORS = [
    "Binary/{id}",
    "Binary/{id}?_format=json",
    "Binary/{id}?_format=xml",
    "Binary/{id}?_pretty=true",
    "Binary/{id}/_history/1",
    "Binary/{id}/_history",
    "Binary/_history",
    "_history?_count=1000",
    "Binary?_id={id}",
    "Binary?contenttype=text/plain",
    "DocumentReference?_id={document}&_include=*",
    "DocumentReference?_id={document}&_revinclude=*",
    "DocumentReference/{document}/_history",
    "DocumentReference/$docref?patient=ann",
    "Patient/ann/$everything?_count=1000",
    "Patient/ann/*",
    "Binary/{id}/$diff?from=1&to=1",
    "$graphql?query={{Binary(id:\"{id}\"){{contentType data}}}}",
    "$graphql?query={{DocumentReference(id:\"{document}\"){{content{{attachment{{url data}}}}}}}}",
    "Binary/{id}/$validate",
    "Binary/{id}/$meta",
    "Composition/{composition}/$document",
]  # fmt: skip


@pytest.fixture(scope="module")
def withheld(clinic: Clinic) -> Json:
    """What is in quarantine, by every way that it can come in; and a Composition that speaks of it."""
    with clinic.as_("ann") as ann, clinic.as_("operator") as operator:
        document = sent(ann, SECRET)
        binary = url_of(document).partition("/")[2]
        composition = {
            "resourceType": "Composition",
            "status": "final",
            "type": {"text": "x"},
            "date": "2026-01-01",
            "title": "x",
            "subject": {"reference": PATIENT},
            "author": [{"reference": DOCTOR}],
            "section": [{"title": "x", "entry": [{"reference": f"Binary/{binary}"}]}],
        }
        made = operator.post("Composition", json=composition)
        assert made.status_code == 201, made.text
    return {"document": document["id"], "id": binary, "composition": made.json()["id"]}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["ann", "dora", "ehr", "operator", "auditor", "administrator"])
def test_no_way_leads_to_what_is_withheld(clinic: Clinic, withheld: Json, door: str, name: str) -> None:
    address = door.format(**withheld)
    with clinic.as_(name) as client:
        for accept in ("*/*", "application/fhir+json", "application/fhir+xml", "text/plain"):
            answer = client.get(address, headers={"Accept": accept})
            assert "that nobody may read" not in answer.text
            assert b64encode(SECRET).decode()[:60] not in answer.text
            assert answer.status_code < 500


@pytest.mark.parametrize("header", ["bytes=0-10", "bytes=10-", "bytes=-5"])
def test_a_range_of_what_is_withheld_is_withheld(clinic: Clinic, withheld: Json, header: str) -> None:
    with clinic.as_("operator") as operator:
        answer = operator.get(f"Binary/{withheld['id']}", headers={"Range": header})
        assert answer.status_code == 403
        assert operator.head(f"Binary/{withheld['id']}").status_code == 403


def test_what_is_withheld_is_withheld_in_a_batch_and_by_a_patch(clinic: Clinic, withheld: Json) -> None:
    entry = {"request": {"method": "GET", "url": f"Binary/{withheld['id']}"}}
    patch = [{"op": "test", "path": "/contentType", "value": "text/plain"}]
    with clinic.as_("operator") as operator:
        answer = operator.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        assert answer.json()["entry"][0]["response"]["status"].startswith("403")
        patched = operator.patch(
            f"Binary/{withheld['id']}",
            content=json.dumps(patch),
            headers={"Content-Type": "application/json-patch+json"},
        )
        assert patched.status_code == 200, patched.text
        assert "data" not in patched.json()
        assert operator.get(f"Binary/{withheld['id']}").status_code == 403
        assert operator.get(f"Binary/{withheld['id']}/_history/1").status_code == 403


@pytest.mark.parametrize("way", ["raw", "json", "spaced", "put", "batch", "transaction"])
def test_with_a_scanner_every_binary_is_examined_however_it_is_stored(clinic: Clinic, way: str) -> None:
    text = b64encode(SECRET).decode()
    resource = {"resourceType": "Binary", "contentType": "text/plain", "data": text}
    with clinic.as_("operator") as operator:
        match way:
            case "raw":
                made = operator.post("Binary", content=SECRET, headers={"Content-Type": "text/plain"})
            case "put":
                made = operator.put("Binary/by-put", content=SECRET, headers={"Content-Type": "text/plain"})
            case "json":
                made = operator.post("Binary", json=resource)
            case "spaced":
                made = operator.post("Binary", json={**resource, "data": text[:40] + "\n" + text[40:]})
            case _:
                entry = {"resource": resource, "request": {"method": "POST", "url": "Binary"}}
                made = operator.post("", json={"resourceType": "Bundle", "type": way, "entry": [entry]})
        assert made.status_code in (200, 201), made.text
        assert text[:60] not in made.text
        if "entry" in (body := made.json()):
            where = "/".join(body["entry"][0]["response"]["location"].split("/")[-4:-2])
        else:
            where = f"Binary/{body['id']}"
        assert operator.get(where).status_code == 403
        clinic.server.run(examine_due(clinic.server.context))
        assert operator.get(where).status_code == 403
        assert operator.get(where, headers=FHIR).status_code == 403


def test_a_clean_binary_is_free_when_it_was_examined_and_a_document_that_names_it_then_says_so(
    clinic: Clinic, letter: bytes
) -> None:
    with clinic.as_("operator") as operator:
        made = operator.post("Binary", content=letter, headers={"Content-Type": "application/pdf"}).json()
        clinic.server.run(waited(clinic, made["id"]))
        got = operator.get(f"Binary/{made['id']}")
        assert (got.content, got.headers["X-Content-Scan"]) == (letter, "clean")
        data = operator.get(f"Binary/{made['id']}", headers=FHIR).json()["data"]
        assert data == b64encode(letter).decode()
        document = {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": {"reference": PATIENT},
            "content": [{"attachment": {"url": f"Binary/{made['id']}"}}],
        }
        later = operator.post("DocumentReference", json=document).json()
        assert mark_of(told(operator, later)) == "clean"


def told(client: httpx.Client, document: Json) -> Json:
    """A document when it says what was found in its content."""
    for _ in range(600):
        found: Json = client.get(f"DocumentReference/{document['id']}").json()
        if "tag" in found["meta"]:
            return found
        time.sleep(0.05)
    raise AssertionError("the document says nothing within half a minute")


async def waited(clinic: Clinic, binary_id: str) -> None:
    """Until the content of a Binary was examined, by this process or by the background."""
    import asyncio  # noqa: PLC0415

    context = clinic.server.context
    version = await context.repository.read("Binary", binary_id)
    async with asyncio.timeout(30):
        while await context.repository.store.blobs.quarantine.mark_of(version.blob) == "waiting":
            await examine_due(context)
            await asyncio.sleep(0.05)


def test_a_scanner_that_is_down_lets_nothing_go_and_is_asked_again(clinic: Clinic, clamd: FakeClamd) -> None:
    context = clinic.server.context
    clamd.down = True
    with clinic.as_("ann") as ann:
        document = sent_now(ann, b"a harmless note")
        assert mark_of(document) == "waiting"
        assert document["status"] == "current"
        assert ann.get(url_of(document)).status_code == 403
        binary_id = url_of(document).partition("/")[2]
        version = clinic.server.run(context.repository.read("Binary", binary_id))
        held = clinic.server.run(context.repository.store.blobs.quarantine.held(version.blob))
        assert held.tries >= 1
        assert "does not answer" in held.detail
        clamd.down = False
        clinic.server.run(context.repository.store.blobs.quarantine.due_now())
        clinic.server.run(waited(clinic, binary_id))
        assert ann.get(url_of(document)).content == b"a harmless note"
        assert mark_of(ann.get(f"DocumentReference/{document['id']}").json()) == "clean"


def test_what_is_too_large_for_the_scanner_was_not_scanned_and_stays_until_somebody_decides(clinic: Clinic) -> None:
    data = b"a long line of text\n" * (LIMIT // 20 + 10_000)
    with clinic.as_("ann") as ann, clinic.as_("auditor") as auditor, clinic.as_("dora") as dora:
        document = sent(ann, data)
        assert mark_of(document) == "unscannable"
        assert ann.get(url_of(document)).status_code == 403
        where = f"DocumentReference/{document['id']}/$release"
        reason = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "looked at by hand"}]}
        assert ann.post(where, json=reason).status_code == 403
        assert dora.post(where, json=reason).status_code == 403
        short = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "ok"}]}
        assert "HS-DOCUMENT-REASON" in auditor.post(where, json=short).text
        released = auditor.post(where, json=reason)
        assert released.status_code == 200, released.text
        assert "attachment" not in released.text
        got = ann.get(url_of(document))
        assert (got.content, got.headers["X-Content-Scan"]) == (data, "released")
        assert mark_of(ann.get(f"DocumentReference/{document['id']}").json()) == "released"
        assert tasks_about(clinic, document)["decide-quarantine"]["status"] == "completed"
        assert auditor.post(where, json=reason).status_code == 409


def test_the_scanner_at_a_unix_socket_and_one_that_is_not_there(socket_path: Any) -> None:
    import asyncio  # noqa: PLC0415

    from fhir_server.model.errors import UnavailableError  # noqa: PLC0415
    from integrations.clamd import clamd_of  # noqa: PLC0415

    async def pieces() -> Any:
        yield EICAR[:20]
        yield EICAR[20:]

    clamd = FakeClamd(path=socket_path)
    scanner = clamd_of(clamd.address)
    assert scanner is not None
    verdict = asyncio.run(scanner.scan(pieces()))
    assert (verdict.found, verdict.detail) == ("infected", "Eicar-Test-Signature")
    clamd.close()
    with pytest.raises(UnavailableError):
        asyncio.run(scanner.scan(pieces()))
    assert clamd_of("") is None
    for wrong in ("http://127.0.0.1:1", "tcp://", "unix://"):
        with pytest.raises(ValueError, match="no address of clamd"):
            clamd_of(wrong)


def test_a_document_that_breaks_what_reads_it_stays_in_quarantine(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        document = sent(ann, b"%PDF-1.7\n" + bytes(range(256)) * 50, "application/pdf")
        assert mark_of(document) == "active-content"
        assert ann.get(url_of(document)).status_code == 403


def test_a_process_that_dies_in_the_middle_leaves_the_content_withheld_and_another_one_goes_on(clinic: Clinic) -> None:
    """What it has taken is due again when its lease has run out."""
    context = clinic.server.context
    quarantine = context.repository.store.blobs.quarantine

    async def story() -> None:
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415

        async def one() -> Any:
            yield b"hello"

        blob = await context.repository.store.blobs.put(one(), owner="gone")
        assert await quarantine.take(blob) is None  # no version names it yet
        await context.repository.store.blobs.settle(blob)
        held = await quarantine.take(blob)
        if held is not None:  # else the background was faster, and has it
            assert await quarantine.take(blob) is None
            past = datetime.now(UTC) - timedelta(seconds=1)
            await quarantine._files.update_one({"_id": blob.id}, {"$set": {"metadata.again": past}})
            await examine_due(context)
        assert await quarantine.mark_of(blob) in ("clean", "waiting")
        await context.repository.store.blobs.discard(blob)

    clinic.server.run(story())


def test_nobody_points_a_document_to_an_infected_content(clinic: Clinic, withheld: Json) -> None:
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": PATIENT},
        "content": [{"attachment": {"url": f"Binary/{withheld['id']}"}}],
    }
    with clinic.as_("operator") as operator:
        answer = operator.post("DocumentReference", json=document)
        assert (answer.status_code, "HS-DOCUMENT-INFECTED" in answer.text) == (422, True)


def test_a_virus_in_a_pdf_counts_before_its_scripts(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        assert mark_of(sent(ann, pdf_of(script=True) + EICAR, "application/pdf")) == "infected"
