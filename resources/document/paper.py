"""Papers: PDFs with a heading, lines of facts and paragraphs, in the letters of Europe's languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos

FONT: Final = "NotoSans[wdth,wght].ttf"

#: Sizes of letters, and millimetres.
TITLE, HEADING, TEXT, SMALL = 18, 13, 10, 8
MARGIN: Final = 20
LINE: Final = 6


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a paper: a heading, lines of name and value, and paragraphs."""

    heading: str
    facts: Sequence[tuple[str, str]] = ()
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Paper:
    """What stands on a paper.

    Attributes:
        issuer: who issues it
        footer: stands on each page
    """

    title: str
    issuer: str
    language: str = "en"
    sections: Sequence[Section] = field(default_factory=tuple)
    footer: str = ""


class _Sheet(FPDF):
    footer_text = ""

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("noto", size=SMALL)
        self.cell(0, 5, f"{self.footer_text}    {self.page_no()}/{{nb}}", align="C")


def drawn(paper: Paper, moment: datetime | None = None) -> bytes:
    """The paper as a PDF."""
    sheet = _Sheet(format="A4")
    sheet.footer_text = paper.footer
    sheet.set_margin(MARGIN)
    sheet.set_auto_page_break(True, margin=MARGIN)
    with as_file(files("fontpkg_noto_sans") / "files" / FONT) as path:
        sheet.add_font("noto", fname=path)
    sheet.set_title(paper.title)
    sheet.set_author(paper.issuer)
    sheet.set_creator("HealthSphere")
    sheet.set_lang(paper.language)
    sheet.set_creation_date(moment or datetime.now(UTC))
    sheet.add_page()
    sheet.set_font("noto", size=SMALL)
    _line(sheet, paper.issuer)
    sheet.set_font("noto", size=TITLE)
    _line(sheet, paper.title, 12)
    for section in paper.sections:
        sheet.ln(2)
        sheet.set_font("noto", size=HEADING)
        _line(sheet, section.heading, 9)
        sheet.set_font("noto", size=TEXT)
        for name, value in section.facts:
            _line(sheet, f"{name}: {value}")
        for text in section.lines:
            _line(sheet, text)
    return bytes(sheet.output())


def _line(sheet: FPDF, text: str, height: float = LINE) -> None:
    """A line that goes on in the next one where it is too long; what is no letter is left out."""
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    sheet.multi_cell(0, height, plain, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
