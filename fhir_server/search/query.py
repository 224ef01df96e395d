"""A search as a typed tree: what `parse` reads and `compile` turns into a filter.

A search is the AND of its predicates. `Predicate` is a union, and `compile` dispatches on the member's class: a
comparison is the OR of its values; chains and what else looks into other resources become comparisons before that (see
`follow`).

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from decimal import Decimal
from typing import Any, Literal

from fhir_server.model.errors import Issue

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
Total = Literal["none", "estimate", "accurate"]
Summary = Literal["true", "text", "data", "count", "false"]
Contained = Literal["false", "true", "both"]
ContainedType = Literal["container", "contained"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter as it applies to one resource type.

    Attributes:
        code: its name in a query
        type: token, string, reference, date, number, quantity, uri, composite or special (`near`)
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
        systemless: of a token, whether no code of it has a system of its own, as those of type `code` and boolean
        within: of a reference, the field of the parameter that has all its entries, and others (see `search.overlap`)
        parts: the parameters whose entries together are all of this one's, and no others
        own: whether it is the operator's own, not of the specification
        ready: whether all resources have been indexed by it
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
    systemless: bool = False
    within: str | None = None
    parts: tuple[Parameter, ...] = ()
    own: bool = False
    ready: bool = True


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
class NearValue:
    """A position in degrees, and the distance from it in metres."""

    latitude: float
    longitude: float
    radius_m: float


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
    | NearValue
    | CompositeValue
    | MissingValue
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One parameter compared with the OR of some values; `modifier` is without its colon."""

    parameter: Parameter
    modifier: str | None
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several predicates holds."""

    predicates: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of several predicates hold."""

    predicates: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """A predicate does not hold."""

    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Test:
    """One parameter compared by an operator of `_filter` that is neither a prefix nor a modifier."""

    parameter: Parameter
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Words:
    """An expression of `_text` or `_content`: the condition it makes, and the words that count for the score."""

    field: str
    condition: dict[str, Any] = dataclass_field(hash=False)
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A reference leads to a resource that meets a predicate: `subject:Patient.name=peter`.

    Attributes:
        resource_type: the type that is searched
        key: its id
        parameter: the reference
        links: the types that it may lead to, each with what the resource must meet; one of them does
    """

    resource_type: str
    key: Parameter
    parameter: Parameter
    links: tuple[tuple[str, Predicate], ...]


@dataclass(frozen=True, slots=True)
class Led:
    """What a chain has found: the references to follow, and the resources that it leads to within themselves.

    Attributes:
        references: one of them is what the reference says
        containers: the resource contains what the reference leads to; None when there are no such resources
        links: of the chain, its predicates followed as well
    """

    references: Comparison
    containers: Comparison | None
    links: tuple[tuple[str, Predicate], ...]


@dataclass(frozen=True, slots=True)
class Reverse:
    """A resource that meets a predicate refers to the one that is searched: `_has:Observation:patient:code=1234-5`.

    Attributes:
        resource_type: the type that is searched
        key: what is referred to: its id, or its canonical URL
        source: the type that refers to it
        parameter: the reference by which it does
        predicate: what the referring resource meets
    """

    resource_type: str
    key: Parameter
    source: str
    parameter: Parameter
    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Listed:
    """The resource is a current entry of one of some Lists, by their ids: `_list=42`."""

    resource_type: str
    key: Parameter
    lists: tuple[str, ...]


#: What a search may be made of.
Predicate = Comparison | Test | Words | AnyOf | AllOf | Not | Chain | Led | Reverse | Listed


def parts_of(predicate: Predicate) -> tuple[Predicate, ...]:
    """The predicates that a predicate is made of."""
    match predicate:
        case AnyOf(predicates) | AllOf(predicates):
            return predicates
        case Not(inner):
            return (inner,)
        case Chain(links=links):
            return tuple([part for _, part in links])
        case Reverse():
            return (predicate.predicate,)
        case _:
            return ()


def with_parts(predicate: Predicate, parts: tuple[Predicate, ...]) -> Predicate:
    """The same predicate made of other parts, as many as it had."""
    match predicate:
        case AnyOf() | AllOf():
            return replace(predicate, predicates=parts)
        case Not():
            return Not(parts[0])
        case Chain(links=links):
            return replace(predicate, links=tuple([(name, p) for (name, _), p in zip(links, parts, strict=True)]))
        case Reverse():
            return replace(predicate, predicate=parts[0])
        case _:
            return predicate


@dataclass(frozen=True, slots=True)
class Include:
    """One `_include` or `_revinclude`.

    Attributes:
        reverse: whether what refers to a resource is included, rather than what it refers to
        source: the type that refers; None for any
        code: the reference by which it does; None for any
        target: the type that is referred to; None for any
        iterate: whether it applies to resources that were themselves included
    """

    reverse: bool
    source: str | None
    code: str | None
    target: str | None
    iterate: bool


@dataclass(frozen=True, slots=True)
class Check:
    """Something of the type `source` refers to the match by `field` and meets a condition (see `reverse`)."""

    source: str
    field: str
    condition: dict[str, Any] = dataclass_field(hash=False)


@dataclass(frozen=True, slots=True)
class SortKey:
    """One rule of `_sort`; with `positions`, the order by distance from the nearest of them, with `terms`,
    by how well they match."""

    parameter: Parameter
    descending: bool
    positions: tuple[NearValue, ...] = ()
    terms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A search of one type, understood.

    Attributes:
        count: how many resources a page has
        total: what `_total` asks for; None when it was not given
        cursor: where the page starts, as a link of ours said (see `page`)
        checks: what is looked for behind each match of the predicates; without it, it is none
        includes: what is added to the matches of a page
        contained: whether contained resources are searched: instead of those that stand by themselves, or with them
        contained_type: what is shown of one that is found: its container, or itself
        compartment: whose compartment is searched, such as `Patient/1`; empty for none
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
    checks: tuple[Check, ...] = ()
    includes: tuple[Include, ...] = ()
    contained: Contained = "false"
    contained_type: ContainedType = "container"
    compartment: str = ""
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Issue, ...] = ()

    @property
    def only_total(self) -> bool:
        """Whether the answer is the number of matches alone (`_summary=count`, `_count=0`)."""
        return self.summary == "count" or self.count == 0

    @property
    def looks_inside(self) -> bool:
        """Whether contained resources are searched."""
        return self.contained != "false"
