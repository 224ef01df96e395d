"""A search as a typed tree: what `parse` reads and `compile` turns into a filter.

A search is the AND of its predicates; a predicate is the OR of its values. `Predicate` is a union: chains and reverse
chains are to become further members of it, and `compile` dispatches on the member's class.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from fhir_server.model.errors import Issue

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
Total = Literal["none", "estimate", "accurate"]
Summary = Literal["true", "text", "data", "count", "false"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter as it applies to one resource type.

    Attributes:
        code: its name in a query
        type: token, string, reference, date, number, quantity, uri or composite
        field: the document field that its entries are in: `x.<code>`, or `_id` and `t`
        targets: of a reference, the types that it can point to
        components: of a composite, the parameters that its parts are searched by
        driver: of a composite, the type's own parameter that finds the same first component, if it has one
        canonical: whether the elements hold canonical URLs
        identifies: whether the elements hold Identifiers
        single: whether a resource can have no more than one value of it
        longest_us: of a date, the longest span that one value can be; None where a Period has no limit
        bare: whether its one entry is kept as it is, not in an array (see `search.index`)
        charted: of a date, whether its index holds the documents without a value too (see `search.charts`)
        within: of a reference, the field of the parameter that has all its entries, and others (see `search.overlap`)
        parts: the parameters whose entries together are all of this one's, and no others
    """

    code: str
    type: str
    field: str
    targets: tuple[str, ...] = ()
    components: tuple[Parameter, ...] = ()
    driver: Parameter | None = None
    canonical: bool = False
    identifies: bool = False
    single: bool = False
    longest_us: int | None = None
    bare: bool = False
    charted: bool = False
    within: str | None = None
    parts: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenValue:
    """A token: `system` is None for any and "" for none; `code` is None for any of the system's."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class TypedIdentifier:
    """The value of `:of-type`: an identifier with one of its type codings."""

    system: str
    code: str
    value: str


@dataclass(frozen=True, slots=True)
class CodeSet:
    """What a terminology modifier was resolved to: `(system, code)` pairs and whole systems."""

    codes: frozenset[tuple[str, str]]
    systems: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TextValue:
    """A string, a uri, or the text of `:text`."""

    text: str


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """A reference as it may be written in a resource: any of these."""

    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DateValue:
    """A span in microseconds since 1970 UTC, half-open; with `ap` it is already widened."""

    prefix: Prefix
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class NumberValue:
    """A number with the half-open range `low <= n < high` that its digits mean; with `ap` that is already widened."""

    prefix: Prefix
    value: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """A number with its unit: without `code` any unit, without `system` that code or unit text in whatever system."""

    number: NumberValue
    system: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class CompositeValue:
    """One value for each component, in the order of the definition."""

    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class MissingValue:
    """The value of `:missing`."""

    missing: bool


Value = (
    TokenValue
    | TypedIdentifier
    | CodeSet
    | TextValue
    | ReferenceValue
    | DateValue
    | NumberValue
    | QuantityValue
    | CompositeValue
    | MissingValue
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One parameter compared with the OR of some values; `modifier` is without its colon."""

    parameter: Parameter
    modifier: str | None
    values: tuple[Value, ...]


#: What a search may be made of.
Predicate = Comparison


@dataclass(frozen=True, slots=True)
class SortKey:
    """One rule of `_sort`."""

    parameter: Parameter
    descending: bool


@dataclass(frozen=True, slots=True)
class Search:
    """A search of one type, understood.

    Attributes:
        count: how many resources a page has
        total: what `_total` asks for; None when it was not given
        cursor: where the page starts, as a link of ours said (see `page`)
        applied: the parameters that took effect, in order, for the self link
        ignored: a warning for each parameter that did not
    """

    resource_type: str
    predicates: tuple[Predicate, ...] = ()
    sort: tuple[SortKey, ...] = ()
    count: int = 20
    total: Total | None = None
    summary: Summary = "false"
    elements: tuple[str, ...] = ()
    cursor: str | None = None
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Issue, ...] = ()

    @property
    def only_total(self) -> bool:
        """Whether the answer is the number of matches alone (`_summary=count`, `_count=0`)."""
        return self.summary == "count" or self.count == 0
