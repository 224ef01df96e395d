"""The prescription on paper: a PDF with a QR code that holds the pull token, signed so that a change is seen.

The QR code holds, as JSON, the addresses by which a pharmacy claims each medicine: `{"urls": ["MedicationRequest/…
/$accept?token=…"]}`, relative to the FHIR base. The server signs it as it signs all its papers (`resources.signing`).

Spec: ISO/IEC 18004 (QR)
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import segno

from fhir_server.interactions.context import Context
from resources.signing import signer_of
from resources.signing.sheet import Sheet as Paper

Json = dict[str, Any]

#: Medicines in one QR code; more would be too fine to read.
MOST_IN_CODE = 8


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
    pdf = Paper("Prescription", 18)
    pdf.add_page()

    def line(text: str, size: float = 10, gap: float = 0) -> None:
        pdf.row(text, size, size * 0.5)
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


async def issued(context: Context, sheet: Sheet, prescriber: str) -> bytes:
    """The signed PDF; what takes time is done beside the event loop."""
    return await signer_of(context).sign_pdf(await asyncio.to_thread(drawn, sheet), f"Prescribed by {prescriber}")
