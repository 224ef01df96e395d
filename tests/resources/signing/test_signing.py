"""PDFs are signed so that a change shows, by a key that all processes of a server share."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from fpdf import FPDF

from fhir_server.model.errors import UnavailableError
from resources.signing import Signer


def page() -> bytes:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=20)
    pdf.cell(text="Certificate")
    return bytes(pdf.output())


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "signing.pem", "The Clinic")


@pytest.fixture(scope="module")
def signed(signer: Signer) -> bytes:
    return asyncio.run(signer.sign_pdf(page(), "Issued by the clinic"))


def test_a_signed_pdf_is_valid_and_wholly_covered(signer: Signer, signed: bytes) -> None:
    (found,) = asyncio.run(signer.verify_pdf(signed))
    assert (found.valid, found.whole) == (True, True)
    assert (found.signed_by, found.reason) == ("The Clinic", "Issued by the clinic")
    assert b"/ETSI.CAdES.detached" in signed


def test_a_change_shows(signer: Signer, signed: bytes) -> None:
    at = signed.index(b"/MediaBox")
    changed = signed[:at] + b"/MediaBex" + signed[at + 9 :]
    assert [one.valid for one in asyncio.run(signer.verify_pdf(changed))] in ([False], [])
    added = signed + b"\n% more\n"
    assert [one.whole for one in asyncio.run(signer.verify_pdf(added))] == [False]


def test_somebody_elses_signature_is_not_believed(signed: bytes, tmp_path: Path) -> None:
    other = Signer(tmp_path / "other.pem", "The Clinic")
    assert [one.valid for one in asyncio.run(other.verify_pdf(signed))] == [False]


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7 broken"])
def test_what_is_no_pdf_has_no_signatures(signer: Signer, data: bytes) -> None:
    assert asyncio.run(signer.verify_pdf(data)) == []


def test_a_pdf_without_a_signature_has_none(signer: Signer) -> None:
    assert asyncio.run(signer.verify_pdf(page())) == []


def test_processes_that_start_together_share_one_key_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    together = [Signer(path, "The Clinic") for _ in range(6)]
    made: list[bytes] = []
    threads = [
        threading.Thread(target=lambda one=one: made.append(asyncio.run(one.sign_pdf(page(), "x")))) for one in together
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert all(asyncio.run(together[0].verify_pdf(data))[0].valid for data in made)
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["signing.pem"]


@pytest.mark.parametrize("content", [b"no key", b""])
def test_a_key_that_cannot_be_read_is_told_as_such_and_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(content)
    with pytest.raises(UnavailableError, match="cannot be used"):
        asyncio.run(Signer(path, "The Clinic").sign_pdf(page(), "x"))
    assert path.read_bytes() == content
