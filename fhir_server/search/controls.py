"""The parameters that shape the answer rather than choose its matches: `_count`, `_sort`, `_total`, `_summary` …

Spec: https://hl7.org/fhir/R4/search.html#return
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import get_args

from fhir_server.model.errors import Issue
from fhir_server.search.parameters import ParameterTable
from fhir_server.search.query import SortKey, Summary, Total
from fhir_server.search.types.conditions import malformed

CURSOR = "_cursor"

#: Spoken about by the HTTP layer; nothing for a search to apply.
SILENT = frozenset(("_format", "_pretty"))

_TOTALS: dict[str, Total] = {total: total for total in get_args(Total)}
_SUMMARIES: dict[str, Summary] = {summary: summary for summary in get_args(Summary)}
_MAX_DIGITS = 9


@dataclass(slots=True)
class Controls:
    """What the control parameters of one query said so far; `given` holds their text."""

    table: ParameterTable
    max_count: int
    count: int
    total: Total | None = None
    summary: Summary = "false"
    elements: tuple[str, ...] = ()
    sort: tuple[SortKey, ...] = ()
    cursor: str | None = None
    given: dict[str, str] = field(default_factory=dict)
    ignored: list[Issue] = field(default_factory=list)

    def take(self, name: str, text: str) -> str | None:
        """Apply one parameter.

        Returns:
            The text that took effect (a `_count` may be lowered); None when nothing did.

        Raises:
            InvalidError: 400; a value that the parameter cannot have, or another one than before.
        """
        if self.given.setdefault(name, text) != text:
            raise malformed(name, text, f"one value for it, and {self.given[name][:40]!r} was given before")
        return _READERS[name](self, text)

    def _count(self, text: str) -> str:
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise malformed("_count", text, "a whole number, 0 or greater")
        self.count = min(int(text), self.max_count)
        return str(self.count)

    def _total(self, text: str) -> str:
        _require("_total", text, _TOTALS)
        self.total = _TOTALS[text]
        return text

    def _summary(self, text: str) -> str:
        _require("_summary", text, _SUMMARIES)
        self.summary = _SUMMARIES[text]
        return text

    def _elements(self, text: str) -> str | None:
        self.elements = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        return text if self.elements else None

    def _cursor(self, text: str) -> str:
        self.cursor = text
        return text

    def _sort(self, text: str) -> str | None:
        keys: dict[str, SortKey] = {}
        for rule in text.split(","):
            descending = rule.startswith("-")
            code = rule[1:] if descending else rule
            if not code or code in keys:
                continue
            parameter = self.table.parameters.get(code)
            if parameter is not None and parameter.type != "composite":
                keys[code] = SortKey(parameter, descending)
            else:
                self.ignored.append(self._not_sortable(code))
            if code == "_id":  # no two are equal: later rules have nothing left to order
                break
        self.sort = tuple(keys.values())
        return ",".join(f"-{code}" if key.descending else code for code, key in keys.items()) or None

    def _not_sortable(self, code: str) -> Issue:
        known = ", ".join(sorted(c for c, p in self.table.parameters.items() if p.type != "composite"))
        return Issue(
            "not-supported",
            f"{self.table.resource_type} cannot be sorted by {code[:60]!r}; it can by: {known}.",
            "http._sort",
            "HS-SEARCH-SORT",
        )


def _require(name: str, text: str, choices: Iterable[str]) -> None:
    if text not in choices:
        raise malformed(name, text, f"one of {', '.join(choices)}")


_READERS: dict[str, Callable[[Controls, str], str | None]] = {
    "_count": Controls._count,
    "_total": Controls._total,
    "_summary": Controls._summary,
    "_elements": Controls._elements,
    "_sort": Controls._sort,
    CURSOR: Controls._cursor,
}

NAMES = frozenset(_READERS)
