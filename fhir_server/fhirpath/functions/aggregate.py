"""`aggregate`: one value out of all items, with `$total` as what came out so far.

Spec: http://hl7.org/fhirpath/N1/#aggregates
"""

from __future__ import annotations

from fhir_server.fhirpath import arithmetic
from fhir_server.fhirpath.equality import compared
from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import Site, builder, collections
from fhir_server.fhirpath.items import EMPTY, Items, integer


@builder("aggregate", 1, 2)
def aggregate(site: Site) -> Evaluate:
    source, step = site.source, site.evaluate(site.nodes[0])
    start = site.evaluate(site.nodes[1]) if len(site.nodes) > 1 else None

    def evaluate(focus: Items, context: Context) -> Items:
        total = start(focus, context) if start else EMPTY
        items = source(focus, context)
        context.spend(len(items))
        outer = context.total, context.index
        for at, item in enumerate(items):
            context.total, context.index = total, at
            total = step([item], context)
        context.total, context.index = outer
        return total

    return evaluate


@collections("sum")
def total(context: Context, items: Items) -> Items:
    result = items[:1]
    for item in items[1:]:
        result = arithmetic.add(result[0], item, context.units) if result else EMPTY
    return result


@collections("min")
def least(context: Context, items: Items) -> Items:
    return _extreme(context, items, -1)


@collections("max")
def greatest(context: Context, items: Items) -> Items:
    return _extreme(context, items, 1)


def _extreme(context: Context, items: Items, sign: int) -> Items:
    result = items[:1]
    for item in items[1:]:
        order = compared(item, result[0], context.units)
        if order is None:
            return EMPTY
        if order == sign:
            result = [item]
    return result


@collections("avg")
def mean(context: Context, items: Items) -> Items:
    found = total(context, items)
    return arithmetic.divide(found[0], integer(len(items))[0], context.units) if found else EMPTY
