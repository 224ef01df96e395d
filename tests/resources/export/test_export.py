"""The archive of a patient: what is in it, what is not, and who gets it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import zipfile
from functools import partial
from io import BytesIO
from typing import Any

import httpx
import pytest

from fhir_server.model.clock import now_us
from resources.export.archives import ENDS, KIND, rows_of
from resources.export.make import carry_on, safe
from tests.resources.document.conftest import DOCTOR, OTHER, PATIENT, Clinic
from tests.resources.document.test_quarantine import SECRET, sent
from tests.resources.told import Told

Json = dict[str, Any]
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def record(clinic: Clinic) -> Json:
    """A record with documents, something hidden from the patient, something of another one."""
    about = {"status": "final", "code": {"text": f"Pulse {EVIL}"}, "valueQuantity": {"value": 61, "unit": "/min"}}
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}
    rows = [
        {"resourceType": "Observation", "id": "pulse", "subject": {"reference": PATIENT}, **about},
        {"resourceType": "Observation", "id": "hidden", "subject": {"reference": PATIENT},
         "meta": {"security": [label]},
         **about},
        {"resourceType": "Observation", "id": "bobs", "subject": {"reference": OTHER}, **about},
    ]  # fmt: skip
    with clinic.as_("operator") as operator, clinic.as_("ann") as ann:
        for row in rows:
            assert operator.put(f"Observation/{row['id']}", json=row).status_code in (200, 201)
        letter = sent(ann, b"Dear doctor", title="../../etc/my <letter>.txt")
        infected = sent(ann, SECRET)
        elsewhere = ann.post("Task", json=task_of())
        assert elsewhere.status_code == 201, elsewhere.text
    return {"letter": letter["id"], "infected": infected["id"], "task": elsewhere.json()["id"]}


def task_of() -> Json:
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": {"reference": PATIENT},
        "requester": {"reference": PATIENT},
        "owner": {"reference": DOCTOR},
    }


def made(client: httpx.Client, patient: str = PATIENT) -> Json:
    """Ask for an archive and wait for it; where it is."""
    begun = client.post(f"{patient}/$export-my-data")
    assert begun.status_code == 202, begun.text
    for _ in range(600):
        status = client.get(begun.headers["Content-Location"])
        if status.status_code == 200:
            return {row["name"]: next(v for k, v in row.items() if k != "name") for row in status.json()["parameter"]}
        assert (status.status_code, "X-Progress" in status.headers) == (202, True), status.text
        time.sleep(0.05)
    raise AssertionError("the archive was not made within half a minute")


def opened(client: httpx.Client, where: Json) -> zipfile.ZipFile:
    got = client.get(where["file"])
    assert (got.status_code, got.headers["Content-Type"]) == (200, "application/zip")
    assert got.headers["Content-Disposition"] == "attachment"
    assert hashlib.sha256(got.content).hexdigest() == where["sha256"]
    archive = zipfile.ZipFile(BytesIO(got.content))
    assert archive.testzip() is None
    return archive


def test_the_archive_has_all_that_the_patient_sees_and_nothing_else(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann:
        archive = opened(ann, made(ann))
        pulse = [json.loads(line) for line in archive.read("fhir/Observation.ndjson").splitlines()]
        assert [one["id"] for one in pulse] == ["pulse"]
        assert pulse[0] == ann.get("Observation/pulse").json()
        assert PATIENT.partition("/")[2] in archive.read("fhir/Patient.ndjson").decode()
        assert record["task"] in archive.read("fhir/Task.ndjson").decode()
        everything = b"".join(archive.read(name) for name in archive.namelist())
        assert b"hidden" not in everything.replace(b"hidden from", b"")
        assert b"bobs" not in everything


def test_documents_are_in_it_but_for_those_in_quarantine(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann:
        archive = opened(ann, made(ann))
    manifest = json.loads(archive.read("manifest.json"))
    letter = next(row for row in manifest["documents"] if row["document"].endswith(record["letter"]))
    assert archive.read(letter["path"]) == b"Dear doctor"
    assert letter["sha256"] == hashlib.sha256(b"Dear doctor").hexdigest()
    assert f"DocumentReference/{record['infected']}" in manifest["withheld"]
    assert all(b"that nobody may read" not in archive.read(name) for name in archive.namelist())
    for name in archive.namelist():
        assert not name.startswith("/")
        assert ".." not in name.split("/")


def test_the_pages_are_readable_and_do_nothing(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann:
        archive = opened(ann, made(ann))
    index = archive.read("index.html").decode()
    for target in re.findall(r'href="([^"]+)"', index):
        assert target in archive.namelist()
    for name in archive.namelist():
        if name.endswith(".html"):
            text = archive.read(name).decode()
            assert "<script" not in text
            assert "http://" not in text.replace("http-equiv", "")
            assert "default-src 'none'" in text
    page = archive.read("pages/Observation.html").decode()
    assert "61 /min" in page
    assert "&lt;script&gt;" in page


def test_only_who_asked_for_it_gets_it_and_only_patients_ask(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann, clinic.as_("bob") as bob, clinic.as_("dora") as dora:
        where = made(ann)
        job = where["file"].partition("job=")[2]
        for client in (bob, dora, clinic.as_("operator"), clinic.as_("auditor")):
            assert client.get(where["file"]).status_code in (403, 404)
            assert client.get(f"{PATIENT}/$export-status", params={"job": job}).status_code in (403, 404)
        assert bob.get(f"{OTHER}/$export-file", params={"job": job}).status_code == 404
        assert dora.post(f"{PATIENT}/$export-my-data").status_code == 403
        assert bob.post(f"{PATIENT}/$export-my-data").status_code == 404
        assert ann.get(f"{PATIENT}/$export-file", params={"job": "nonsense"}).status_code == 404


def test_an_archive_goes_when_its_time_is_over(clinic: Clinic, record: Json) -> None:
    context = clinic.server.context
    with clinic.as_("ann") as ann:
        where = made(ann)
        job = where["file"].partition("job=")[2]

        async def over() -> Any:
            row = await rows_of(context).get(job)
            await rows_of(context).put(job, {"until": now_us() - 1})
            return row

        row = clinic.server.run(over())
        assert ann.get(where["file"]).status_code == 410

        async def ended() -> int:
            await context.timers.set(ENDS, job, now_us())
            await context.timers.run_due()
            blobs = context.repository.store.blobs
            for _ in range(200):  # the server's own look for due timers may have been faster
                if await rows_of(context).get(job) is None:
                    break
                await context.timers.run_due()
            return int(await blobs._files.count_documents({"_id": row["b"]["i"]}))

        assert clinic.server.run(ended()) == 0
        assert ann.get(where["file"]).status_code == 404


def test_a_purge_takes_the_archives_of_the_patient_along(clinic: Clinic) -> None:
    context = clinic.server.context
    confirm = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}
    clinic.roles.add("carl", "patient", "Patient/carl", patient="Patient/carl")
    with clinic.as_("operator") as operator, clinic.as_("carl") as carl:
        assert operator.put("Patient/carl", json={"resourceType": "Patient", "id": "carl"}).status_code == 201
        job = made(carl, "Patient/carl")["file"].partition("job=")[2]
        row = clinic.server.run(rows_of(context).get(job))
        assert operator.post("Patient/carl/$purge", json=confirm).status_code == 200

        async def left() -> tuple[Any, int]:
            blobs = context.repository.store.blobs
            return await rows_of(context).get(job), int(await blobs._files.count_documents({"_id": row["b"]["i"]}))

        assert clinic.server.run(left()) == (None, 0)


@pytest.mark.parametrize(
    ("title", "kind", "name"),
    [
        ("../../etc/passwd", "text/plain", "etc_passwd.txt"),
        ("Brief.pdf", "application/pdf", "Brief.pdf"),
        ("...", "image/png", "document.png"),
        ("a\x00b/c:d*", "application/x-weird", "a_b_c_d.x-weird"),
        ("Röntgen 1", "image/jpeg", "Röntgen 1.jpg"),
    ],
)
def test_names_of_files_mean_nothing_to_any_file_system(title: str, kind: str, name: str) -> None:
    assert safe(title, kind) == name


def test_who_asked_hears_once_when_the_archive_is_ready_though_it_was_made_twice(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies when it has told, and another one begins anew."""
    context = clinic.server.context
    done = threading.Event()

    async def twice(context: Any, run: Any) -> bytes:
        await carry_on(context, run)
        size = await carry_on(context, run)
        done.set()
        return size

    monkeypatch.setitem(context.jobs._works, KIND, partial(twice, context))
    with clinic.as_("bob") as bob, clinic.as_("operator") as operator:
        news = Told(clinic.server, operator, OTHER)
        made(bob, OTHER)
        assert done.wait(60)
        assert news.events(OTHER, OTHER) == news.mails(OTHER, OTHER) == [("export-ready", OTHER)]
