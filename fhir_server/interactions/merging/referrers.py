"""Everything that refers to a patient, and references turned from one patient to another.

Resources are found by the index entries of every search parameter that can lead to a Patient, and then walked through:
whatever refers to the patient in them is turned, indexed or not. Provenance and AuditEvent stay as they are: they tell
what was done to which record at the time.

Spec: https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fhir_server.model import codec
from fhir_server.repository.records import RECORDS
from fhir_server.search.execute import SearchStore
from fhir_server.search.parameters import table_of
from fhir_server.storage.document import FIELDS, Version, version_of
from profiles.registry import Registry

Json = dict[str, Any]

#: Resources read and written at a time.
PORTION = 500


def fields_to_patients(resource_type: str, registry: Registry) -> tuple[str, ...]:
    """The fields of a type's documents whose entries may be references to a Patient."""
    return registry.kept(_fields_to_patients)(resource_type)


def _fields_to_patients(registry: Registry, resource_type: str) -> tuple[str, ...]:
    return tuple(
        parameter.field
        for parameter in table_of(resource_type, registry).parameters.values()
        if parameter.type == "reference"
        and not parameter.canonical
        and parameter.within is None
        and ("Patient" in parameter.targets or not parameter.targets)
    )


async def referrers(
    finder: SearchStore, registry: Registry, types: Sequence[str], patient: str
) -> AsyncIterator[list[Version]]:
    """The current versions that refer to a patient (`Patient/1`), a portion of one type at a time."""
    for resource_type in types:
        fields = fields_to_patients(resource_type, registry) if resource_type not in RECORDS else ()
        if not fields:
            continue
        conditions = [{field: patient} for field in fields]
        last = ""
        while True:
            rows = await finder.find(
                resource_type,
                {"$and": [{"_id": {"$gt": last}}, {"$or": conditions}]},
                sort=[("_id", 1)],
                limit=PORTION,
                fields=FIELDS,
            )
            if rows:
                yield [version_of(resource_type, row) for row in rows if row.get("r")]
            if len(rows) < PORTION:
                break
            last = rows[-1]["_id"]


def turned(resource: Json, source: str, target: str, base_url: str) -> int:
    """Turn every reference to one patient to another, in place; the number of them.

    A reference to one version of the patient stays: that version is read at its old address for ever.
    """
    count = 0
    absolute = f"{base_url}/{source}"
    for node, _ in codec.walk(resource):
        reference = node.get("reference")
        if reference in (source, absolute):
            node["reference"] = target if reference == source else f"{base_url}/{target}"
            count += 1
    return count
