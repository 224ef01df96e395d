"""Papers: PDFs with a heading, lines of facts and paragraphs, in the letters of Europe's languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from resources.signing.sheet import Sheet

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


def drawn(paper: Paper, moment: datetime | None = None) -> bytes:
    """The paper as a PDF."""
    sheet = Sheet(paper.title, MARGIN, paper.language, paper.footer)
    sheet.set_author(paper.issuer)
    sheet.set_creation_date(moment or datetime.now(UTC))
    sheet.add_page()
    sheet.row(paper.issuer, SMALL, LINE)
    sheet.row(paper.title, TITLE, 12)
    for section in paper.sections:
        sheet.ln(2)
        sheet.row(section.heading, HEADING, 9)
        for name, value in section.facts:
            sheet.row(f"{name}: {value}", TEXT, LINE)
        for text in section.lines:
            sheet.row(text, TEXT, LINE)
    return bytes(sheet.output())
