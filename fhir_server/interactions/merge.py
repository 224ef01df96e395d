"""`Patient/$merge`: two records of one person become one, in one transaction, so that it can be taken back.

Everything that refers to the source refers to the target afterwards; the source stays, not in use, and leads to the
target. A Provenance names every version that this made.

Spec: https://hl7.org/fhir/R5/patient-operation-merge.html (our own operation on R4)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.merging.patients import patient_of, require_mergeable, retired, surviving, without_link
from fhir_server.interactions.merging.record import provenance_of
from fhir_server.interactions.merging.referrers import referrers, turned
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import Issue, outcome_of
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Checked, FailedChangeError
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

Json = dict[str, Any]

#: Resources that a preview names; it counts all.
MOST_NAMED = 100
BREATH = 25


async def merge(context: Context, request: Request) -> Answer:
    """Patient/$merge: the outcome, the target as it is now, and the Provenance that `$unmerge` takes.

    Raises:
        UnprocessableError: 422; the two cannot be merged.
        ConflictError: 409; others kept changing what the merge wanted to change.
    """
    inputs = Inputs.of(request)
    source = await patient_of(context, inputs, "source-patient", request.base_url)
    target = await patient_of(context, inputs, "target-patient", request.base_url)
    again = require_mergeable(source, target)
    result = inputs.resource("result-patient")
    if inputs.flag("preview"):
        return await preview(context, request, source, target, result)
    types = [name for name in await context.repository.store.collections() if context.registry.is_resource_type(name)]
    await context.repository.store.ensure("Provenance")

    async def work(unit: Unit) -> tuple[Version, Version | None, Counter[str]]:
        inner = context.within(unit)
        await unit.lock(sorted((f"merge:{source.id}", f"merge:{target.id}")))
        ours = await inner.repository.read("Patient", source.id)
        theirs = await inner.repository.read("Patient", target.id)
        require_mergeable(ours, theirs)
        made: list[Version] = []
        survivor = theirs
        old, new = codec.decode(ours.body or b""), codec.decode(theirs.body or b"")
        if not again or result is not None:
            wanted = without_link(result or new, ours.id, "replaces")
            turned(wanted, f"Patient/{ours.id}", f"Patient/{theirs.id}", request.base_url)
            # The link to the source, added after that, is the one reference that stays.
            new = surviving(new, old, wanted) if result else surviving(wanted, old, None)
            if again:
                made += await written(inner, unit, [changed(theirs, new)])
            else:
                made += await written(inner, unit, [changed(ours, retired(old, theirs.id)), changed(theirs, new)])
            survivor = made[-1]
        counts: Counter[str] = Counter()
        async for portion in referrers(unit, context.registry, types, f"Patient/{ours.id}"):
            changes = [c for v in portion if (c := change_of(v, ours, theirs, request.base_url)) is not None]
            made += await written(inner, unit, changes)
            counts.update(change.type for change in changes)
        if not made:
            return survivor, None, counts
        record = provenance_of("merge", made, ours, theirs, {})
        kept = await written(inner, unit, [Change("POST", "Provenance", new_id(), record, fresh=True)])
        return survivor, kept[0], counts

    try:
        survivor, record, counts = await context.repository.store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed
    told = f"Patient/{source.id} is merged into Patient/{target.id}; {changed_text(counts)}."
    rows: list[Json] = [
        {"name": "outcome", "resource": outcome_of([Issue("informational", told, severity="information")])},
        {"name": "result", "resource": codec.decode(survivor.body or b"")},
    ]
    if record is not None:
        rows.append({"name": "provenance", "valueReference": {"reference": f"Provenance/{record.id}"}})
    return answered(parameters_of(*rows))


async def preview(context: Context, request: Request, source: Version, target: Version, result: Json | None) -> Answer:
    """What the merge would change: a count for each type, the first resources by name, and what the target would be."""
    types = [name for name in await context.repository.store.collections() if context.registry.is_resource_type(name)]
    counts: Counter[str] = Counter()
    named: list[Json] = []
    async for portion in referrers(context.repository.store, context.registry, types, f"Patient/{source.id}"):
        for version in portion:
            if change_of(version, source, target, request.base_url) is not None:
                counts[version.type] += 1
                if len(named) < MOST_NAMED:
                    named.append({"name": "change", "valueReference": {"reference": f"{version.type}/{version.id}"}})
    merged = surviving(codec.decode(target.body or b""), codec.decode(source.body or b""), result)
    issues = [i for i in context.repository.issues_of(merged) if i.severity in ("error", "fatal")]
    told = f"Merging Patient/{source.id} into Patient/{target.id} would change it: {changed_text(counts)}."
    outcome = outcome_of([Issue("informational", told, severity="information"), *issues])
    parts = [{"name": name, "valueInteger": number} for name, number in sorted(counts.items())]
    return answered(
        parameters_of(
            {"name": "outcome", "resource": outcome},
            {"name": "result", "resource": merged},
            *([{"name": "count", "part": parts}] if parts else []),
            *named,
        )
    )


def change_of(version: Version, source: Version, target: Version, base_url: str) -> Change | None:
    """The change that turns a resource's references; None for the two records themselves, and where there are none."""
    if version.body is None or (version.type == "Patient" and version.id in (source.id, target.id)):
        return None
    resource = codec.decode(version.body)
    if not turned(resource, f"Patient/{source.id}", f"Patient/{target.id}", base_url):
        return None
    return changed(version, resource)


def changed(version: Version, resource: Json) -> Change:
    return Change("PUT", version.type, version.id, resource, if_match=version.version, blob=version.blob, by="merge")


async def written(context: Context, unit: Unit, changes: list[Change]) -> list[Version]:
    """Write changes inside the transaction; the versions that they make."""
    checked: list[Checked] = []
    for number, change in enumerate(changes):
        checked.append(context.repository.check(change))
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
    return [outcome.version for outcome in await context.repository.commit_within(unit, checked)] if checked else []


def changed_text(counts: Counter[str]) -> str:
    if not counts:
        return "no other resource refers to the source"
    shown = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))
    return f"{counts.total():,} resources refer to the target now ({shown})"
