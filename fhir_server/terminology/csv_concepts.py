"""Concepts from a CSV file, which may be larger than memory: it is read twice, once for the hierarchy.

The first line names the columns. `code` is needed; `display`, `definition`, `parent` (several between bars), `inactive`
and `notSelectable` (true or false) mean what they say; `display:de` is a designation in German; every other column is a
property of that name.

Spec: https://hl7.org/fhir/R4/codesystem.html, RFC 4180
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhir_server.terminology.concepts import Concept

Json = dict[str, Any]

NAMED = frozenset({"code", "display", "definition", "parent", "inactive", "notSelectable"})

_LANGUAGE = "display:"

#: One column of one line; longer ones are no displays.
_LONGEST = 100_000

_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


class CsvError(ValueError):
    """The file cannot be read as concepts; the text says where and why."""


@dataclass(slots=True)
class Outline:
    """What the first reading tells.

    Attributes:
        parents: by code, where there are any
        properties: the columns that are properties
        strangers: parents that are no codes of the file, and so do not count
    """

    codes: set[str] = field(default_factory=set)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    strangers: set[str] = field(default_factory=set)


def outline_of(path: Path) -> Outline:
    """Read a file for the first time.

    Raises:
        CsvError: a line has no code, or one that an earlier line has; a column is missing or has no name.
    """
    outline = Outline()
    columns: list[str] = []
    for line, row in _lines(path):
        if not columns:
            columns = list(row)
            outline.properties = tuple(c for c in columns if c not in NAMED and not c.startswith(_LANGUAGE))
        code = row["code"].strip()
        if not code:
            raise CsvError(f"line {line} has no code")
        if code in outline.codes:
            raise CsvError(f"line {line} has the code {code!r}, which an earlier line has")
        outline.codes.add(code)
        if parents := _parents(row):
            outline.parents[code] = parents
        for name in ("inactive", "notSelectable"):
            if row.get(name, "").strip().lower() not in _FLAGS:
                raise CsvError(f"line {line}: {name} is {row[name][:40]!r}; true or false was expected")
    if not outline.codes:
        raise CsvError("it has no concepts")
    outline.strangers = {code for found in outline.parents.values() for code in found} - outline.codes
    return outline


def concepts_in(path: Path) -> Iterator[Concept]:
    """The concepts of a file, in its order."""
    for number, (_, row) in enumerate(_lines(path)):
        properties: list[Json] = []
        designations: list[Json] = []
        for column, text in row.items():
            if column in NAMED or not text.strip():
                continue
            if column.startswith(_LANGUAGE):
                designations.append({"language": column.removeprefix(_LANGUAGE), "value": text.strip()})
            else:
                properties.append({"code": column, "valueString": text.strip()})
        yield Concept(
            row["code"].strip(),
            row.get("display", "").strip(),
            row.get("definition", "").strip(),
            tuple(designations),
            tuple(properties),
            _parents(row),
            _FLAGS[row.get("notSelectable", "").strip().lower()],
            _FLAGS[row.get("inactive", "").strip().lower()],
            number,
        )


def _parents(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in row.get("parent", "").split("|") if part.strip()))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a file by column, each with its number."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        csv.field_size_limit(_LONGEST)
        try:
            columns = [name.strip() for name in next(reader, [])]
            if "code" not in columns or "" in columns or len(set(columns)) < len(columns):
                raise CsvError("the first line must name the columns, each once, `code` among them")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise CsvError(f"line {reader.line_num} has {len(cells)} columns; {len(columns)} were expected")
                yield reader.line_num, dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise CsvError(f"line {reader.line_num} cannot be read: {error}") from None
        except UnicodeDecodeError:
            raise CsvError("it is not UTF-8") from None
