"""Utility functions: a trace, the clock.

Spec: http://hl7.org/fhirpath/N1/#utility-functions
"""

from __future__ import annotations

from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import Site, builder, collections
from fhir_server.fhirpath.items import Item, Items
from fhir_server.fhirpath.kinds import DATE, DATE_TIME, TIME


@builder("trace", 1, 2)
def trace(site: Site) -> Evaluate:
    """Hand the items (or what the projection makes of them) to the caller's trace, if it gave one, and go on."""
    source, name = site.source, site.evaluate(site.nodes[0])
    projection = site.evaluate(site.nodes[1]) if len(site.nodes) > 1 else None

    def evaluate(focus: Items, context: Context) -> Items:
        items = source(focus, context)
        if context.trace is not None:
            label = name(focus, context)
            shown = items if projection is None else [v for item in items for v in projection([item], context)]
            context.trace(str(label[0].value) if label else "", shown)
        return items

    return evaluate


@collections("now")
def now(context: Context, items: Items) -> Items:
    moment = context.now()
    zone = moment.isoformat(timespec="milliseconds")
    return [Item(zone.replace("+00:00", "Z"), DATE_TIME)]


@collections("today")
def today(context: Context, items: Items) -> Items:
    return [Item(context.now().date().isoformat(), DATE)]


@collections("timeOfDay")
def time_of_day(context: Context, items: Items) -> Items:
    return [Item(context.now().time().isoformat(timespec="milliseconds"), TIME)]
