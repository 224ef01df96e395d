"""Subsetting: some items by their place, or by what another collection has.

Spec: http://hl7.org/fhirpath/N1/#subsetting
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key

from fhir_server.fhirpath.binary import distinct
from fhir_server.fhirpath.equality import compared, key_of
from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import Site, builder, collections
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items
from fhir_server.fhirpath.nodes import Node, Unary
from fhir_server.fhirpath.quantities import Units


@collections("single")
def single(context: Context, items: Items) -> Items:
    if len(items) > 1:
        raise Fault(f"single() found {len(items)} items")
    return items


@collections("first")
def first(context: Context, items: Items) -> Items:
    return items[:1]


@collections("last")
def last(context: Context, items: Items) -> Items:
    return items[-1:]


@collections("tail")
def tail(context: Context, items: Items) -> Items:
    return items[1:]


def number_in(argument: Items) -> int | None:
    """The integer of an argument; None where it is empty."""
    if not argument:
        return None
    if len(argument) > 1 or argument[0].kind.system != "Integer" or argument[0].value is None:
        raise Fault("one integer was expected as the argument")
    return int(argument[0].value)


@collections("skip", 1)
def skip(context: Context, items: Items, number: Items) -> Items:
    count = number_in(number)
    return EMPTY if count is None else items[max(count, 0) :]


@collections("take", 1)
def take(context: Context, items: Items, number: Items) -> Items:
    count = number_in(number)
    return EMPTY if count is None else items[: max(count, 0)]


@collections("intersect", 1)
def intersect(context: Context, items: Items, other: Items) -> Items:
    if not items or not other:
        return EMPTY
    keys = {key_of(item, context.units) for item in other}
    return distinct([item for item in items if key_of(item, context.units) in keys], context.units)


@collections("exclude", 1)
def exclude(context: Context, items: Items, other: Items) -> Items:
    keys = {key_of(item, context.units) for item in other}
    return [item for item in items if key_of(item, context.units) not in keys]


@builder("sort", 0, 8)
def sort(site: Site) -> Evaluate:
    """By the items themselves or by keys of which the first counts most; a key with a minus goes downwards.

    Items without a key come first, in either direction. The minus is a sign for the order, so strings can have one too.
    Spec: https://build.fhir.org/ig/HL7/FHIRPath/#sortkeyselector-asc--desc----collection
    """
    source = site.source
    keys = [_key_of(site, node) for node in site.nodes] or [(_itself, 1)]

    def evaluate(focus: Items, context: Context) -> Items:
        rows = [(item, [_key(key([item], context)) for key, _ in keys]) for item in source(focus, context)]
        rows.sort(key=cmp_to_key(_row_order([sign for _, sign in keys], context.units)))
        return [item for item, _ in rows]

    return evaluate


def _key_of(site: Site, node: Node) -> tuple[Evaluate, int]:
    if isinstance(node, Unary) and node.operator == "-":
        return site.evaluate(node.operand), -1
    return site.evaluate(node), 1


def _itself(focus: Items, context: Context) -> Items:
    return focus


def _key(items: Items) -> Item | None:
    if len(items) > 1:
        raise Fault(f"a sort key must be a single item, found {len(items)}")
    return items[0] if items else None


_Row = tuple[Item, list[Item | None]]


def _row_order(signs: list[int], units: Units | None) -> Callable[[_Row, _Row], int]:
    def order(left: _Row, right: _Row) -> int:
        for sign, mine, other in zip(signs, left[1], right[1], strict=True):
            if mine is None or other is None:
                found = int(mine is not None) - int(other is not None)
            else:
                found = sign * (compared(mine, other, units) or 0)
            if found:
                return found
        return 0

    return order
