"""Existence: is there something, is it so for all, is it contained.

Spec: http://hl7.org/fhirpath/N1/#existence
"""

from __future__ import annotations

from fhir_server.fhirpath.binary import distinct, negated, truth_of
from fhir_server.fhirpath.equality import key_of
from fhir_server.fhirpath.evaluation import Context, Truth
from fhir_server.fhirpath.functions.table import Site, collections, condition
from fhir_server.fhirpath.items import FALSES, TRUES, Fault, Items, boolean, integer


@condition("exists", 0, 1)
def exists(site: Site) -> Truth:
    source = site.source
    if not site.nodes:
        return lambda focus, context: bool(source(focus, context))
    test = site.truth(site.nodes[0])

    def evaluate(focus: Items, context: Context) -> bool:
        items = source(focus, context)
        context.spend(len(items))
        return any(test([item], context) is True for item in items)

    def counted(focus: Items, context: Context) -> bool:
        outer = context.index
        found = False
        items = source(focus, context)
        context.spend(len(items))
        for at, item in enumerate(items):
            context.index = at
            found = found or test([item], context) is True
        context.index = outer
        return found

    return counted if site.reads_index else evaluate


@condition("empty")
def empty(site: Site) -> Truth:
    source = site.source
    return lambda focus, context: not source(focus, context)


@condition("not")
def negation(site: Site) -> Truth:
    return negated(truth_of(site.source))


@condition("all", 1)
def all_of(site: Site) -> Truth:
    source, test = site.source, site.truth(site.nodes[0])

    def evaluate(focus: Items, context: Context) -> bool:
        outer, held = context.index, True
        items = source(focus, context)
        context.spend(len(items))
        for at, item in enumerate(items):
            context.index = at
            if test([item], context) is not True:
                held = False
                break
        context.index = outer
        return held

    return evaluate


def _booleans(items: Items) -> list[bool | None]:
    for item in items:
        if item.kind.system != "Boolean":
            raise Fault(f"booleans were expected, found a {item.type}")
    return [item.value for item in items]


@collections("allTrue")
def all_true(context: Context, items: Items) -> Items:
    return boolean(all(_booleans(items)))


@collections("anyTrue")
def any_true(context: Context, items: Items) -> Items:
    return boolean(True in _booleans(items))


@collections("allFalse")
def all_false(context: Context, items: Items) -> Items:
    return boolean(all(value is False for value in _booleans(items)))


@collections("anyFalse")
def any_false(context: Context, items: Items) -> Items:
    return boolean(False in _booleans(items))


def _is_subset(context: Context, items: Items, other: Items) -> Items:
    keys = {key_of(item, context.units) for item in other}
    return boolean(all(key_of(item, context.units) in keys for item in items))


@collections("subsetOf", 1)
def subset_of(context: Context, items: Items, other: Items) -> Items:
    return _is_subset(context, items, other)


@collections("supersetOf", 1)
def superset_of(context: Context, items: Items, other: Items) -> Items:
    return _is_subset(context, other, items)


@collections("count")
def count(context: Context, items: Items) -> Items:
    return integer(len(items))


@collections("distinct")
def distinct_items(context: Context, items: Items) -> Items:
    return distinct(items, context.units)


@collections("isDistinct")
def is_distinct(context: Context, items: Items) -> Items:
    return TRUES if len({key_of(item, context.units) for item in items}) == len(items) else FALSES


def _has_value(items: Items) -> bool:
    return len(items) == 1 and items[0].kind.is_primitive and items[0].value is not None


@condition("hasValue")
def has_value(site: Site) -> Truth:
    """One primitive with a value, and not with extensions alone; https://hl7.org/fhir/R4/fhirpath.html#functions"""
    source = site.source
    return lambda focus, context: _has_value(source(focus, context))


@collections("getValue")
def get_value(context: Context, items: Items) -> Items:
    """The value of one primitive as a value of FHIRPath's own type."""
    return [items[0].plain()] if _has_value(items) else []
