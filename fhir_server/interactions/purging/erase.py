"""Removing victims: versions, blobs, and every place that names them; then looking whether anything is left.

Each step can be done again after a crash: it removes what is there. The order keeps what leads to the rest until last.

Spec: http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.purging.victims import PORTION, Victims, rows_of
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.repository.records import TRAIL
from fhir_server.storage.document import HISTORY

Json = dict[str, Any]

#: What stands where a reference was.
REMOVED = {"display": "(removed)"}

#: Somebody may write while a purge runs: what is left then is removed in a further round.
ROUNDS = 3


@dataclass(slots=True)
class Report:
    """The proof: counts by type, digests of what was removed, and what a last look through everything found.

    Attributes:
        removed: resources
        versions: earlier versions of those resources
        redacted: resources that named one of them and lost the reference
        stripped: earlier versions of other resources, removed since they named one of them
        hashes: SHA-256 of each `Type/id` that was removed
        left: places that still name one of them, by type; empty when all is well
    """

    removed: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    stripped: Counter[str] = field(default_factory=Counter)
    hashes: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


async def erase(context: Context, victims: Victims, *, step: Callable[[str, Json | None], Awaitable[None]]) -> Report:
    """Remove the victims and every trace of them; `step` is told what is being done."""
    report = Report()
    for name, ids in victims.ids.items():
        report.hashes += [hashlib.sha256(f"{name}/{i}".encode()).hexdigest() for i in ids]
    report.hashes.sort()
    for _ in range(ROUNDS):
        await step("references", None)
        await redact(context, victims, report)
        await step("resources", None)
        await remove(context, victims, report)
        await step("history", None)
        await strip(context, victims, report)
        await step("verification", None)
        report.left = await left(context, victims)
        if not report.left:
            break
    return report


async def remove(context: Context, victims: Victims, report: Report) -> None:
    """Remove the current and all earlier versions of the victims."""
    store = context.repository.store
    for name, ids in victims.ids.items():
        ordered = sorted(ids)
        for start in range(0, len(ordered), PORTION):
            current, past = await store.erase(name, ordered[start : start + PORTION])
            report.removed[name] += current
            report.versions[name] += past


async def redact(context: Context, victims: Victims, report: Report) -> None:
    """Take the references to victims out of all other current resources, each as a new version."""
    for name in await context.repository.store.collections():
        if name == TRAIL:
            continue  # who saw what stays until its retention ends; it names the patient by the id alone
        async for row in rows_of(context.repository.store, name):
            body = row.get("r")
            if body is None or victims.has(name, row["_id"]) or not any(victims.named_in(body)):
                continue
            try:
                await context.repository.amend(
                    partial(context.repository.read, name, row["_id"]), partial(without, victims=victims)
                )
                report.redacted[name] += 1
            except FhirError:
                continue  # gone meanwhile, or not valid by today's rules: the verification names what is left


async def strip(context: Context, victims: Victims, report: Report) -> None:
    """Remove the earlier versions of other resources that name victims: they once belonged to them."""
    store = context.repository.store
    keys: list[str] = []
    async for row in rows_of(store, HISTORY):
        if any(victims.named_in(row.get("r") or b"")):
            keys.append(row["_id"])
            report.stripped[row["y"]] += 1
        if len(keys) == PORTION:
            await store.erase_past(keys)
            keys = []
    await store.erase_past(keys)


async def left(context: Context, victims: Victims) -> Counter[str]:
    """Where victims are still found: a look through every current and earlier version."""
    found: Counter[str] = Counter()
    store = context.repository.store
    for name in await store.collections():
        if name == TRAIL:
            continue
        async for row in rows_of(store, name):
            if victims.has(name, row["_id"]) or any(victims.named_in(row.get("r") or b"")):
                found[name] += 1
    async for row in rows_of(store, HISTORY):
        if victims.has(row["y"], row["i"]) or any(victims.named_in(row.get("r") or b"")):
            found[f"{row['y']} (history)"] += 1
    return found


def without(resource: Json, victims: Victims) -> Json:
    """The resource with `REMOVED` where it referred to a victim, and `removed` where a url or text named one."""
    for node, _ in codec.walk(resource):
        reference = node.get("reference")
        if type(reference) is str and victims.erased(reference) != reference:
            node.clear()
            node.update(REMOVED)
            continue
        for name, value in node.items():
            if type(value) is str:
                node[name] = victims.erased(value)
            elif type(value) is list:
                node[name] = [victims.erased(one) if type(one) is str else one for one in value]
    return resource
