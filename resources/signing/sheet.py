"""The sheets on which papers are drawn before they are signed: A4, in the letters of Noto Sans."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos

FONT: Final = "NotoSans[wdth,wght].ttf"


class Sheet(FPDF):
    """A PDF whose letters are those of Latin, Greek, Cyrillic and Devanagari.

    Args:
        title: of the document
        margin: in millimetres
        language: of its words
        footer: stands on each page, with its number; none where it is empty
    """

    def __init__(self, title: str, margin: float, language: str = "en", footer: str = "") -> None:
        super().__init__(format="A4")
        self.footer_text = footer
        self.set_margin(margin)
        self.set_auto_page_break(True, margin=margin)
        with as_file(files("fontpkg_noto_sans") / "files" / FONT) as path:
            self.add_font("noto", fname=path)
        self.set_title(title)
        self.set_creator("HealthSphere")
        self.set_lang(language)

    def footer(self) -> None:
        if self.footer_text:
            self.set_y(-15)
            self.set_font("noto", size=8)
            self.cell(0, 5, f"{self.footer_text}    {self.page_no()}/{{nb}}", align="C")

    def row(self, text: str, size: float, height: float) -> None:
        """A line that goes on in the next one where it is too long; what is no letter is left out."""
        self.set_font("noto", size=size)
        plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
        self.multi_cell(0, height, plain, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
