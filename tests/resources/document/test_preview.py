"""Previews show what a document looks like, and are never the document itself; and who has seen it is told."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.conftest import InProcessServer
from tests.resources.document.conftest import Clinic, make_clinic, pdf_of
from tests.resources.document.test_quarantine import SECRET, sent, url_of

Json = dict[str, Any]


def picture(size: tuple[int, int], kind: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, "red").save(out, kind)
    return out.getvalue()


def test_the_first_page_of_a_pdf_is_a_picture_that_is_made_once(clinic: Clinic, letter: bytes) -> None:
    with clinic.as_("ann") as ann:
        document = sent(ann, letter, "application/pdf")
        shown = ann.get(f"DocumentReference/{document['id']}/$preview")
        assert (shown.status_code, shown.headers["Content-Type"]) == (200, "image/png"), shown.text
        assert "sandbox" in shown.headers["Content-Security-Policy"]
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        image = Image.open(BytesIO(shown.content))
        assert max(image.size) <= 1024
        assert len(image.convert("L").getcolors(1024) or ()) > 1, "there is something on the page"
        context = clinic.server.context
        binary = clinic.server.run(context.repository.read("Binary", url_of(document).partition("/")[2]))
        kept = clinic.server.run(context.repository.store.blobs.quarantine.preview_of(binary.blob))
        assert kept == shown.content == ann.get(f"DocumentReference/{document['id']}/$preview").content


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_picture_becomes_a_smaller_one_without_what_else_was_in_the_file(clinic: Clinic, kind: str) -> None:
    data = picture((3000, 1500), kind) + b"<script>alert(1)</script>"
    with clinic.as_("ann") as ann:
        document = sent(ann, data, f"image/{kind}")
        shown = ann.get(f"DocumentReference/{document['id']}/$preview")
        assert Image.open(BytesIO(shown.content)).size == (1024, 512)
        assert b"script" not in shown.content


def test_the_first_lines_of_a_text_are_text_whatever_stands_in_it(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann:
        document = sent(ann, b"<script>alert(1)</script>\x1b[31m\n" + b"x" * 100_000)
        shown = ann.get(f"DocumentReference/{document['id']}/$preview")
        assert shown.headers["Content-Type"] == "text/plain;charset=utf-8"
        assert "\x1b" not in shown.text
        assert len(shown.text) <= 16 * 1024


def test_there_is_no_preview_of_what_is_withheld_hidden_elsewhere_or_no_picture(clinic: Clinic) -> None:
    elsewhere = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": "Patient/ann"},
        "content": [{"attachment": {"url": "https://elsewhere.example/a.pdf"}}],
    }
    with clinic.as_("ann") as ann, clinic.as_("bob") as bob, clinic.as_("operator") as operator:
        infected = sent(ann, SECRET)
        assert ann.get(f"DocumentReference/{infected['id']}/$preview").status_code == 403
        mine = sent(ann, pdf_of(), "application/pdf")
        assert bob.get(f"DocumentReference/{mine['id']}/$preview").status_code == 404
        other = operator.post("DocumentReference", json=elsewhere).json()
        assert operator.get(f"DocumentReference/{other['id']}/$preview").status_code == 404
        broken = sent(ann, picture((10, 10), "png")[:40] + b"x" * 200, "image/png")
        refused = ann.get(f"DocumentReference/{broken['id']}/$preview")
        assert (refused.status_code, "HS-DOCUMENT-PREVIEW" in refused.text) == (422, True)
        scan = sent(ann, b"\0" * 128 + b"DICM" + b"\0" * 100, "application/dicom")
        assert ann.get(f"DocumentReference/{scan['id']}/$preview").status_code == 422


def test_who_has_seen_a_document_is_told_to_its_patient_and_its_author(
    make_server: Callable[..., InProcessServer],
) -> None:
    clinic = make_clinic(make_server, None, audit="on")
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora, clinic.as_("bob") as bob, clinic.as_("sam") as sam:
        document = sent(ann, b"a note")
        where = f"DocumentReference/{document['id']}"
        assert dora.get(where).status_code == 200
        assert dora.get(url_of(document)).status_code == 200
        assert bob.get(where).status_code == 404
        told = ann.get(f"{where}/$views")
        assert told.status_code == 200, told.text
        lines = [{p["name"]: p for p in row["part"]} for row in told.json()["parameter"]]
        by_dora = [
            line
            for line in lines
            if line.get("who", {}).get("valueReference", {}).get("reference") == "Practitioner/dora"
        ]
        assert {line["what"]["valueString"] for line in by_dora} == {"Read DocumentReference", "Read Binary"}
        assert by_dora[0]["who"]["valueReference"]["display"] == "Dr. Dora"
        assert dora.get(f"{where}/$views").status_code == 403
        assert sam.get(f"{where}/$views").status_code == 404
        own = sent(dora, b"a finding")
        assert dora.get(f"DocumentReference/{own['id']}/$views").status_code == 200
    clinic.server.close()
