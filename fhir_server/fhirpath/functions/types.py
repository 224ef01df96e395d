"""Reflection: `type()`. (`is`, `as` and `ofType` are operators of the tree, see `engine`.)

Spec: http://hl7.org/fhirpath/N1/#reflection
"""

from __future__ import annotations

from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import Item, Items
from fhir_server.fhirpath.kinds import TYPE_INFO


@collections("type")
def type_of(context: Context, items: Items) -> Items:
    return [_described(item) for item in items]


def _described(item: Item) -> Item:
    kind = item.kind
    info = {"namespace": kind.namespace, "name": kind.name}
    base = kind.base()
    if base is not None:
        info["baseType"] = base
    return Item(info, TYPE_INFO)
