"""Tree navigation.

Spec: http://hl7.org/fhirpath/N1/#tree-navigation
"""

from __future__ import annotations

from fhir_server.fhirpath.evaluation import Context
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
        level = below
    return found
