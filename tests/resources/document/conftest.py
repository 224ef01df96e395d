"""A server with documents: a scanner that can be switched off, and people of every role."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import InProcessServer
from tests.resources.callers import Roles
from tests.resources.document.clamd import FakeClamd

Json = dict[str, Any]

PATIENT, OTHER, DOCTOR, STRANGER = "Patient/ann", "Patient/bob", "Practitioner/dora", "Practitioner/sam"


@dataclass
class Clinic:
    """A server with access control, whose callers are named by their roles."""

    server: InProcessServer
    roles: Roles
    clamd: FakeClamd | None

    def as_(self, name: str) -> httpx.Client:
        return self.roles.as_(name, self.server)


def people() -> list[Json]:
    """Two patients, and a doctor of the first one."""
    doctor = {"reference": DOCTOR}
    return [
        {"resourceType": "Patient", "id": "ann", "name": [{"family": "Ånn", "given": ["Zoë"]}],
         "birthDate": "1980-02-29", "generalPractitioner": [doctor]},
        {"resourceType": "Patient", "id": "bob", "name": [{"family": "Bob"}]},
        {"resourceType": "Practitioner", "id": "dora", "name": [{"family": "Dora", "prefix": ["Dr."]}]},
        {"resourceType": "Practitioner", "id": "sam", "name": [{"family": "Sam"}]},
    ]  # fmt: skip


def make_clinic(make_server: Callable[..., InProcessServer], clamd: FakeClamd | None, **settings: Any) -> Clinic:
    roles = Roles()
    roles.add("operator", "operator")
    roles.add("ann", "patient", PATIENT, patient=PATIENT)
    roles.add("bob", "patient", OTHER, patient=OTHER)
    roles.add("dora", "practitioner", DOCTOR)
    roles.add("sam", "practitioner", STRANGER)
    roles.add("auditor", "auditor")
    roles.add("administrator", "administrator")
    roles.add("ehr", "system")
    given = {"auth": "on", "clamd": clamd.address if clamd else "", **settings}
    server = make_server({"gate": roles}, **given)
    roles.server = server
    with roles.as_("operator") as operator:
        for one in people():
            assert operator.put(f"{one['resourceType']}/{one['id']}", json=one).status_code == 201
    return Clinic(server, roles, clamd)


def twin_of(clinic: Clinic, make_server: Callable[..., InProcessServer]) -> InProcessServer:
    """Another process's worth of state over the same database."""
    roles, settings = clinic.roles.twin(), clinic.server.settings
    server = make_server({"gate": roles}, auth="on", clamd=settings.clamd, mongodb_database=settings.mongodb_database)
    roles.server = server
    return server


@pytest.fixture(scope="session")
def clinic(make_server: Callable[..., InProcessServer]) -> Iterator[Clinic]:
    """With a scanner."""
    clamd = FakeClamd()
    yield make_clinic(make_server, clamd)
    clamd.close()


@pytest.fixture(scope="session")
def plain_clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    """Without a scanner."""
    return make_clinic(make_server, None)


@pytest.fixture
def clamd(clinic: Clinic) -> Iterator[FakeClamd]:
    """The scanner of `clinic`, which answers again when the test has ended."""
    assert clinic.clamd is not None
    yield clinic.clamd
    clinic.clamd.down = False


def settled(client: httpx.Client, document: Json) -> Json:
    """A document when its examination has ended, which goes on in the background on a busy machine."""
    for _ in range(600):
        tags = document.get("meta", {}).get("tag", [])
        if not any(tag.get("code") == "waiting" for tag in tags):
            return document
        time.sleep(0.05)
        document = client.get(f"DocumentReference/{document['id']}").json()
    raise AssertionError("the document was not examined within half a minute")


def pdf_of(text: str = "A letter", *, script: bool = False, inside: bool = False) -> bytes:
    """A PDF of one page."""
    from io import BytesIO  # noqa: PLC0415

    import pikepdf  # noqa: PLC0415
    from fpdf import FPDF  # noqa: PLC0415

    made = FPDF()
    made.add_page()
    made.set_font("helvetica", size=20)
    made.cell(text=text)
    data = bytes(made.output())
    if not script and not inside:
        return data
    with pikepdf.open(BytesIO(data)) as pdf:
        if script:
            action = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")
            pdf.Root.OpenAction = pdf.make_indirect(action)
        if inside:
            pdf.attachments["a.txt"] = pikepdf.AttachedFileSpec(pdf, b"hello", filename="a.txt")
        out = BytesIO()
        pdf.save(out)
    return out.getvalue()


@pytest.fixture(scope="session")
def letter() -> bytes:
    return pdf_of()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "clamd.ctl"
