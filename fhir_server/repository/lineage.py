"""Whose data a Provenance tells about: the patients of its targets, kept with its index entries.

R4 has a Provenance in a patient's compartment only where the Patient itself is a target. Yet a patient's app that may
see an Observation is to see where it comes from (`_revinclude=Provenance:target`, which US Core asks for). So when a
Provenance is written, the patients of its targets are looked up and stand in a field of their own, which access
policies ask, and no search does. It opens a Provenance for all of its targets' patients or for none: one that tells
about several people is seen by who may see them all. A second field names them all: whoever denies their data denies
what tells about it, and what may do so, since its target was not there yet.

Spec: https://hl7.org/fhir/R4/compartmentdefinition-patient.html, https://hl7.org/fhir/R4/provenance.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.search.compartment import FOCAL
from fhir_server.search.lineage import ABOUT, ABOUT_ANY, UNKNOWN
from fhir_server.storage.finding import Finds
from profiles.registry import Registry

PATIENT = "Patient"

Entries = Mapping[str, Any]


class Lineage:
    """Tells whose data a Provenance is about, by the entries of its targets."""

    def __init__(self, registry: Registry) -> None:
        self._ways = {
            name: tuple(code for code in codes if code != FOCAL)
            for name, codes in registry.compartments[PATIENT].types.items()
        }

    async def about(self, reads: Finds, entries: Entries, beside: Mapping[str, Entries]) -> dict[str, Any]:
        """The entries of a Provenance, with the patients whom its targets are about, and the one where it is one.

        Args:
            beside: the entries of what is written together with it, by reference
        """
        found: set[str] = set()
        missing = False
        wanted: dict[str, list[str]] = {}
        for reference in entries.get("target", ()):
            name, _, logical_id = reference.partition("/")
            if name == PATIENT:
                found.add(reference)
            elif reference in beside:
                found |= self._patients_in(name, beside[reference])
            elif self._ways.get(name):
                wanted.setdefault(name, []).append(logical_id)
        for name, ids in wanted.items():
            fields = {f"x.{code}": 1 for code in self._ways[name]}
            rows = await reads.find(name, {"_id": {"$in": ids}}, sort=[], limit=len(ids), fields=fields)
            missing = missing or len(rows) < len(set(ids))
            for row in rows:
                found |= self._patients_in(name, row.get("x", {}))
        anybody = sorted(found | {UNKNOWN}) if missing else sorted(found)
        told = {**entries, ABOUT_ANY: anybody} if anybody else dict(entries)
        return {**told, ABOUT: sorted(found)} if len(found) == 1 else told

    def _patients_in(self, resource_type: str, entries: Entries) -> set[str]:
        """The patients in whose compartments a resource is, by its entries."""
        values: list[str] = []
        for code in self._ways.get(resource_type, ()):
            value = entries.get(code, ())
            values += [value] if isinstance(value, str) else _texts(value)
        return {value for value in values if value.startswith(f"{PATIENT}/")}


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
