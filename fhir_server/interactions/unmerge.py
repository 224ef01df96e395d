"""`Patient/$unmerge`: a merge taken back, as its Provenance tells what it changed.

What is still as the merge left it becomes what it was before. What was changed since is not touched, and is named; of
the two patients themselves only the marks of the merge are removed then.

Spec: none of FHIR's (our own operation)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.merge import changed, written
from fhir_server.interactions.merging.facts_kept import without_borrowed
from fhir_server.interactions.merging.patients import replaced_by, without_link
from fhir_server.interactions.merging.record import provenance_of, versions_named
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import InvalidError, Issue, UnprocessableError, outcome_of
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, FailedChangeError
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

Json = dict[str, Any]
PORTION = 500
_PROVENANCE = re.compile(r"Provenance/([A-Za-z0-9\-.]{1,64})(?:/_history/\d+)?")


async def unmerge(context: Context, request: Request) -> Answer:
    """Patient/$unmerge: the outcome, and each resource that was changed since the merge and is left as it is.

    Raises:
        UnprocessableError: 422; the Provenance is none of a merge, or the merge is taken back already.
    """
    inputs = Inputs.of(request)
    given = inputs.required("provenance", inputs.one("provenance"))
    reference = str(given.get("reference") if type(given) is dict else given)
    found = _PROVENANCE.fullmatch(reference.removeprefix(f"{request.base_url}/"))
    if found is None:
        raise InvalidError(
            f"'provenance' is {reference[:80]!r}; the reference that $merge gave was expected.",
            expression="Parameters.parameter.where(name='provenance')",
            key="HS-OP-PARAMETER",
        )
    record = await context.repository.read("Provenance", found[1])
    made, (source_id, source_before), (target_id, target_before) = versions_named(codec.decode(record.body or b""))

    async def work(unit: Unit) -> tuple[list[Version], list[str]]:
        inner = context.within(unit)
        await unit.lock(sorted((f"merge:{source_id}", f"merge:{target_id}")))
        source = await inner.repository.read("Patient", source_id)
        target = await inner.repository.read("Patient", target_id)
        if replaced_by(codec.decode(source.body or b"")) != f"Patient/{target_id}":
            raise UnprocessableError(
                f"Patient/{source_id} is not merged into Patient/{target_id}: that was taken back already.",
                key="HS-MERGE-UNDONE",
            )
        restored: list[Version] = []
        kept: list[str] = []
        for portion in portions(made):
            changes: list[Change] = []
            for version, before in await standing(unit, portion):
                if before is not None and before.body is not None:
                    changes.append(changed(version, codec.decode(before.body)))
                else:
                    kept.append(f"{version.type}/{version.id}")
            restored += await written(inner, unit, changes)
        restored += await cleaned(inner, unit, kept, source_id, source_before, target_id, target_before)
        about = provenance_of("unmerge", restored, source, target, {}) if restored else None
        if about is not None:
            await written(inner, unit, [Change("POST", "Provenance", new_id(), about, fresh=True)])
        return restored, kept

    try:
        restored, kept = await context.repository.store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed
    issues = [
        Issue(
            "informational", f"{len(restored):,} resources are as they were before the merge.", severity="information"
        )
    ]
    if kept:
        told = f"{len(kept):,} resources were changed since the merge, or deleted, and are left as they are."
        issues.append(Issue("incomplete", told, key="HS-MERGE-KEPT", severity="warning"))
    rows = [{"name": "changed-since", "valueReference": {"reference": name}} for name in kept]
    return answered(parameters_of({"name": "outcome", "resource": outcome_of(issues)}, *rows))


def portions(made: Iterable[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    """What the merge made, of one type at a time and no more than a portion."""
    by_type: dict[str, list[tuple[str, str, int]]] = {}
    for row in made:
        by_type.setdefault(row[0], []).append(row)
    for rows in by_type.values():
        for start in range(0, len(rows), PORTION):
            yield rows[start : start + PORTION]


async def standing(unit: Unit, rows: list[tuple[str, str, int]]) -> list[tuple[Version, Version | None]]:
    """The current version of each, beside the one before the merge where the merge's is still current."""
    resource_type = rows[0][0]
    current = await unit.get_many(resource_type, [i for _, i, _ in rows])
    unchanged = [(i, number) for _, i, number in rows if i in current and current[i].version == number]
    before = await unit.past_many(resource_type, [(i, number - 1) for i, number in unchanged])
    return [(current[i], before.get(i)) for _, i, _ in rows if i in current]


async def cleaned(
    context: Context,
    unit: Unit,
    kept: list[str],
    source_id: str,
    source_before: int,
    target_id: str,
    target_before: int,
) -> list[Version]:
    """Of patients that were changed since, remove what the merge put into them: links, `active`, old identifiers."""
    changes: list[Change] = []
    before = await unit.past("Patient", source_id, source_before)
    original = codec.decode(before.body) if before is not None and before.body is not None else {}
    if f"Patient/{source_id}" in kept:
        version = await context.repository.read("Patient", source_id)
        patient = without_link(codec.decode(version.body or b""), target_id, "replaced-by")
        patient.pop("active", None)
        if "active" in original:
            patient["active"] = original["active"]
        changes.append(changed(version, patient))
    if f"Patient/{target_id}" in kept:
        version = await context.repository.read("Patient", target_id)
        then = await unit.past("Patient", target_id, target_before)
        own = codec.decode(then.body) if then is not None and then.body is not None else {}
        patient = without_link(codec.decode(version.body or b""), source_id, "replaces")
        changes.append(changed(version, without_borrowed(patient, original, own)))
    return await written(context, unit, changes)
