"""The parameters that shape the answer rather than choose its matches: `_count`, `_sort`, `_total`, `_summary` …

Spec: https://hl7.org/fhir/R4/search.html#return
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import get_args

from fhir_server.model.errors import Issue
from fhir_server.search.parameters import ParameterTable
from fhir_server.search.query import Contained, ContainedType, SortKey, Summary, Total
from fhir_server.search.types.conditions import malformed

CURSOR = "_cursor"
QUERY = "_query"

#: Spoken about by the HTTP layer; nothing for a search to apply.
SILENT = frozenset(("_format", "_pretty"))

#: What results of several types can be sorted by, and the field of a row that has it.
ACROSS = {"_id": "_id", "_lastUpdated": "t"}

#: A place has no order, unless a search says from where.
UNSORTABLE = frozenset(("composite", "special"))

_CONTAINED: dict[str, Contained] = {text: text for text in get_args(Contained)}
_CONTAINED_TYPES: dict[str, ContainedType] = {text: text for text in get_args(ContainedType)}
_TOTALS: dict[str, Total] = {total: total for total in get_args(Total)}
_SUMMARIES: dict[str, Summary] = {summary: summary for summary in get_args(Summary)}
_MAX_DIGITS = 9

#: An order by more is nobody's wish, and MongoDB sorts by 32 fields at most.
MAX_SORT_KEYS = 8


@dataclass(slots=True)
class Controls:
    """What the control parameters of one query said so far; `given` holds their text.

    `looks_inside`: the query is one of contained resources, which come in the order of several types.
    """

    table: ParameterTable
    max_count: int
    count: int
    looks_inside: bool = False
    total: Total | None = None
    summary: Summary = "false"
    elements: tuple[str, ...] = ()
    sort: tuple[SortKey, ...] = ()
    cursor: str | None = None
    contained: Contained = "false"
    contained_type: ContainedType = "container"
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

    def _type(self, text: str) -> str:
        types = text.split(",")
        if self.table.resource_type not in types:
            raise malformed("_type", text, f"{self.table.resource_type} among the types, which is what is searched")
        return text

    def _cursor(self, text: str) -> str:
        self.cursor = text
        return text

    def _sort(self, text: str) -> str | None:
        keys: dict[str, SortKey] = {}
        rules = text.split(",")
        if len(rules) > MAX_SORT_KEYS:
            raise malformed("_sort", text, f"at most {MAX_SORT_KEYS} parameters to sort by, not {len(rules)}")
        for rule in rules:
            descending = rule.startswith("-")
            code = rule[1:] if descending else rule
            if not code or code in keys:
                continue
            parameter = self.table.parameters.get(code)
            if self.looks_inside and code not in ACROSS:
                self.ignored.append(sorted_across("Contained resources", code))
            elif parameter is not None and parameter.type not in UNSORTABLE:
                keys[code] = SortKey(parameter, descending)
            else:
                self.ignored.append(self._not_sortable(code))
            if code == "_id":  # no two are equal: later rules have nothing left to order
                break
        self.sort = tuple(keys.values())
        return ",".join(f"-{code}" if key.descending else code for code, key in keys.items()) or None

    def _contained(self, text: str) -> str:
        _require("_contained", text, _CONTAINED)
        self.contained = _CONTAINED[text]
        return text

    def _contained_type(self, text: str) -> str:
        _require("_containedType", text, _CONTAINED_TYPES)
        self.contained_type = _CONTAINED_TYPES[text]
        return text

    def _query(self, text: str) -> str:
        return text  # what it stands for is read where all parameters are known: see `named`

    def _not_sortable(self, code: str) -> Issue:
        known = ", ".join(sorted(c for c, p in self.table.parameters.items() if p.type not in UNSORTABLE))
        return Issue(
            "not-supported",
            f"{self.table.resource_type} cannot be sorted by {code[:60]!r}; it can by: {known}.",
            "http._sort",
            "HS-SEARCH-SORT",
        )


def sorted_across(what: str, code: str) -> Issue:
    """What stands in several collections has an order by what all of them have."""
    text = f"{what} are sorted by _lastUpdated or _id, not by {code[:60]!r}."
    return Issue("not-supported", text, "http._sort", "HS-SEARCH-SORT")


def _require(name: str, text: str, choices: Iterable[str]) -> None:
    if text not in choices:
        raise malformed(name, text, f"one of {', '.join(choices)}")


_READERS: dict[str, Callable[[Controls, str], str | None]] = {
    "_count": Controls._count,
    "_total": Controls._total,
    "_summary": Controls._summary,
    "_elements": Controls._elements,
    "_sort": Controls._sort,
    "_contained": Controls._contained,
    "_containedType": Controls._contained_type,
    QUERY: Controls._query,
    "_type": Controls._type,
    CURSOR: Controls._cursor,
}

NAMES = frozenset(_READERS)
