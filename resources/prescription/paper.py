"""The prescription on paper: a PDF with a QR code that holds the pull token, signed so that a change is seen.

The QR code holds, as JSON, the addresses by which a pharmacy claims each medicine: `{"urls": ["MedicationRequest/…
/$accept?token=…"]}`, relative to the FHIR base.

Spec: ETSI EN 319 142 (PAdES), ISO/IEC 18004 (QR)
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import segno
from cryptography.hazmat.primitives import serialization

from resources.prescription.keys import NAME, SigningKey

Json = dict[str, Any]

#: Medicines in one QR code; more would be too fine to read.
MOST_IN_CODE = 8

FIELD = "Prescription"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on the paper.

    Attributes:
        patient, prescriber: lines of text
        medicines: for each the name, and further lines
        codes: for each medicine its address for claiming it
        issued: the moment of the signature
        number: names the prescription
    """

    patient: Sequence[str]
    prescriber: Sequence[str]
    medicines: Sequence[tuple[str, Sequence[str]]]
    codes: Sequence[str]
    issued: str
    number: str


def drawn(sheet: Sheet) -> bytes:
    """The PDF, not signed yet."""
    from fontpkg_noto_sans import ROOT  # noqa: PLC0415  (a second of imports, which only signatures need)
    from fpdf import FPDF  # noqa: PLC0415

    pdf = FPDF(format="A4")
    pdf.set_title("Prescription")
    pdf.set_creator("HealthSphere")
    pdf.set_lang("en")
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, margin=18)
    pdf.add_font("Noto", "", str(ROOT / "files" / "NotoSans[wdth,wght].ttf"))
    pdf.add_page()

    def line(text: str, size: float = 10, gap: float = 0) -> None:
        pdf.set_font("Noto", size=size)
        pdf.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT")
        if gap:
            pdf.ln(gap)

    line("Prescription", 20, 2)
    line(f"{sheet.number} · {sheet.issued}", 8, 4)
    for title, rows in (("Patient", sheet.patient), ("Prescribed by", sheet.prescriber)):
        line(title, 8)
        for row in rows:
            line(row, 11)
        pdf.ln(3)
    for number, (name, rows) in enumerate(sheet.medicines, 1):
        line(f"{number}. {name}", 13)
        for row in rows:
            line(row)
        pdf.ln(3)
    for start in range(0, len(sheet.codes), MOST_IN_CODE):
        picture = io.BytesIO()
        text = json.dumps({"urls": list(sheet.codes[start : start + MOST_IN_CODE])}, separators=(",", ":"))
        segno.make(text, error="m", micro=False).save(picture, kind="png", scale=6, border=4)
        picture.seek(0)
        pdf.image(picture, w=60, alt_text="QR code with which a pharmacy claims the prescription")
    line(
        "Show this code to a pharmacy of your choice. Whoever has it can claim the prescription: keep it to yourself.",
        8,
    )
    return bytes(pdf.output())


async def sealed(pdf: bytes, key: SigningKey, prescriber: str) -> bytes:
    """The PDF with the server's signature (PAdES, baseline B)."""
    from asn1crypto import keys as asn1_keys  # noqa: PLC0415
    from asn1crypto import x509 as asn1_x509  # noqa: PLC0415
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter  # noqa: PLC0415
    from pyhanko.sign import PdfSignatureMetadata, SimpleSigner, async_sign_pdf  # noqa: PLC0415
    from pyhanko.sign.fields import SigSeedSubFilter  # noqa: PLC0415
    from pyhanko_certvalidator.registry import SimpleCertificateStore  # noqa: PLC0415

    certificate = asn1_x509.Certificate.load(key.certificate.public_bytes(serialization.Encoding.DER))
    private = key.private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signer = SimpleSigner(
        signing_cert=certificate,
        signing_key=asn1_keys.PrivateKeyInfo.load(private),
        cert_registry=SimpleCertificateStore.from_certs([certificate]),  # type: ignore[no-untyped-call]
    )
    metadata = PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        name=NAME,
        reason=f"Prescribed by {prescriber}",
        subfilter=SigSeedSubFilter.PADES,
    )
    out = await async_sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), metadata, signer, output=io.BytesIO())
    result: bytes = out.getvalue()
    return result


async def issued(sheet: Sheet, key: SigningKey, prescriber: str) -> bytes:
    """The signed PDF; what takes time is done beside the event loop."""
    return await sealed(await asyncio.to_thread(drawn, sheet), key, prescriber)
