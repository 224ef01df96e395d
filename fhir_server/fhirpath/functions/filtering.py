"""Filtering and projection: each item is looked at in turn, as `$this`, with its number as `$index`.

Spec: http://hl7.org/fhirpath/N1/#filtering-and-projection
"""

from __future__ import annotations

from collections.abc import Hashable

from fhir_server.fhirpath.equality import key_of
from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import Site, builder
from fhir_server.fhirpath.items import Fault, Items, limited

#: A repeat() that goes on is making items that never end.
_MAX_REPEATED = 100_000


@builder("where", 1)
def where(site: Site) -> Evaluate:
    source, test = site.source, site.truth(site.nodes[0])

    def evaluate(focus: Items, context: Context) -> Items:
        items = source(focus, context)
        context.spend(len(items))
        return [item for item in items if test([item], context)]

    def counted(focus: Items, context: Context) -> Items:
        outer, found = context.index, []
        items = source(focus, context)
        context.spend(len(items))
        for at, item in enumerate(items):
            context.index = at
            if test([item], context):
                found.append(item)
        context.index = outer
        return found

    return counted if site.reads_index else evaluate


@builder("select", 1)
def select(site: Site) -> Evaluate:
    source, projection = site.source, site.evaluate(site.nodes[0])

    def evaluate(focus: Items, context: Context) -> Items:
        items = source(focus, context)
        context.spend(len(items))
        return limited([value for item in items for value in projection([item], context)])

    def counted(focus: Items, context: Context) -> Items:
        outer, found = context.index, []
        items = source(focus, context)
        context.spend(len(items))
        for at, item in enumerate(items):
            context.index = at
            found += projection([item], context)
        context.index = outer
        return limited(found)

    return counted if site.reads_index else evaluate


def _repeated(site: Site, *, distinct: bool) -> Evaluate:
    source, projection = site.source, site.evaluate(site.nodes[0])

    def evaluate(focus: Items, context: Context) -> Items:
        found: Items = []
        seen: set[Hashable] = set()
        waiting = source(focus, context)
        while waiting:
            fresh: Items = []
            context.spend(len(waiting))
            for at, item in enumerate(waiting):
                context.index = at
                for value in projection([item], context):
                    # An element of the resource is itself wherever it is reached from; a computed value is its value.
                    key = (id(value.value),) if type(value.value) is dict else key_of(value, context.units)
                    if distinct and key in seen:
                        continue
                    seen.add(key)
                    fresh.append(value)
            found += fresh
            if len(found) > _MAX_REPEATED:
                raise Fault(f"more than {_MAX_REPEATED} items were repeated")
            waiting = fresh
        return found

    return evaluate


@builder("repeat", 1)
def repeat(site: Site) -> Evaluate:
    return _repeated(site, distinct=True)


@builder("repeatAll", 1)
def repeat_all(site: Site) -> Evaluate:
    return _repeated(site, distinct=False)
