"""Combining two collections.

Spec: http://hl7.org/fhirpath/N1/#combining
"""

from __future__ import annotations

from fhir_server.fhirpath.binary import united
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import Items, limited


@collections("union", 1)
def union(context: Context, items: Items, other: Items) -> Items:
    return united(items, other, context.units)


@collections("combine", 1)
def combine(context: Context, items: Items, other: Items) -> Items:
    return limited([*items, *other])
