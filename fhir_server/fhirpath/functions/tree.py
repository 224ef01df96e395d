"""Tree navigation.

Spec: http://hl7.org/fhirpath/N1/#tree-navigation
"""

from __future__ import annotations

from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import Items, all_children


@collections("children")
def children(context: Context, items: Items) -> Items:
    found: Items = []
    for item in items:
        all_children(item, found)
    return found


@collections("descendants")
def descendants(context: Context, items: Items) -> Items:
    """All below, level by level."""
    found: Items = []
    level = items
    while level:
        below: Items = []
        for item in level:
            if type(item.value) is dict or item.twin is not None:
                all_children(item, below)
        found += below
        context.spend(len(below))
        level = below
    return found


def descendants_of_variable(name: str) -> Evaluate:
    """`%name.descendants()`, found once in an evaluation: `dom-3` asks for it four times per contained resource."""

    def evaluate(focus: Items, context: Context) -> Items:
        found = context.kept.get(name)
        if found is None:
            found = context.kept[name] = descendants(context, context.variable(name))
        return found

    return evaluate
