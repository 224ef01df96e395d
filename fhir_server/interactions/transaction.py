"""transaction: the entries of a Bundle as one change, all or nothing.

The order is the specification's: deletions, creates, updates and patches, reads; identities and conditional references
are settled first, so that entries can name each other in any order. A large Bundle is decoded, validated and written in
portions inside one MongoDB transaction: only its bytes and one portion are in memory.

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fhir_server.interactions.answers import about, location_of, preferred_return, touched_by, typed
from fhir_server.interactions.bundle import Envelope
from fhir_server.interactions.conditional import change_of, only_match, process_locks
from fhir_server.interactions.context import Context
from fhir_server.interactions.entries import at_entry, response_of
from fhir_server.interactions.linking import Links, conditional_references
from fhir_server.interactions.patch import match_of, patch_change
from fhir_server.interactions.plan import Faults, Plan, Step, planned
from fhir_server.interactions.preconditions import if_match, require_version
from fhir_server.interactions.provenance import source_in
from fhir_server.interactions.update import require_id
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import FhirError, InvalidError, PreconditionFailedError
from fhir_server.model.exchange import Answer, Request, decoded
from fhir_server.repository.repository import ABSENT, Change, Checked, Committed, FailedChangeError
from fhir_server.search.lineage import PROVENANCE
from fhir_server.storage.unit import Unit

#: Entries decoded, validated and written at a time.
PORTION = 500

#: How long validation may hold the event loop, in entries; then others get their turn.
BREATH = 25


async def transaction(context: Context, request: Request, bundle: Envelope) -> Answer:
    """Carry out all entries; the response has one entry per entry of the request, in its order.

    Raises:
        FhirError: whatever the first failing kind of entry deserves; each issue names its entry. Nothing is changed
        then.
    """
    source = await source_in(context, request)
    plan = await planned(context, request, bundle)
    bodies = [request.body, *(step.request.body for step in plan.of("PATCH"))]  # a Binary hides what is in it
    references = sorted(set().union(*map(conditional_references, bodies)))
    for name in sorted({s.type for s in plan.steps if s.kind != "GET"}):
        await context.repository.store.ensure(name)

    keys = plan.lock_keys()

    async def work(unit: Unit) -> None:
        inner = context.within(unit)
        await unit.lock(keys)
        outcomes = await delete_all(inner, unit, plan)
        await settle(inner, plan)
        links = await links_of(inner, plan, references)
        # What a Provenance tells about must be there when it is written: it comes last.
        changing = [*plan.of("POST"), *plan.of("PUT"), *plan.of("PATCH")]
        outcomes += await write_all(inner, unit, sorted(changing, key=lambda step: step.type == PROVENANCE), links)
        if source is not None:
            await source.attach(inner, unit, outcomes)
        for step in plan.of("GET"):
            await read_one(inner, step)

    async with process_locks(keys):
        await context.repository.store.transact(work)
    body = response_of("transaction-response", [step.response() for step in plan.steps])
    return Answer(200, body, entries=tuple((s.request, s.answer) for s in plan.steps if s.answer is not None))


async def delete_all(context: Context, unit: Unit, plan: Plan) -> list[Committed]:
    """Deletions come first; a conditional one takes the single match, if there is one."""
    changes: list[tuple[Step, Checked]] = []
    for step in plan.of("DELETE"):
        try:
            expected = if_match(step.request)
            resource_id = step.id
            if step.criteria is not None:
                found = await only_match(context, step.type, step.criteria)
                resource_id = found.id if found else None
            if resource_id is None:
                step.answer = Answer(204)
                continue
            changes.append((step, Checked(Change("DELETE", step.type, resource_id, if_match=expected))))
        except FhirError as error:
            raise at_entry(error, step.index) from error
    outcomes = await commit_portion(context, unit, changes)
    for (step, _), outcome in zip(changes, outcomes, strict=True):
        number = outcome.version.version
        step.answer = Answer(204, version=None if number == ABSENT else number, touched=touched_by([outcome]))
    return outcomes


async def settle(context: Context, plan: Plan) -> None:
    """Decide which resource each create, update and patch will be, before any content is looked at."""
    creating: dict[str, Step] = {}
    for step in plan.of("POST"):
        step.standing = step.twin = None
        step.id = new_id()
        if step.criteria is None:
            continue
        try:
            step.standing = await only_match(context, step.type, step.criteria)
        except FhirError as error:
            raise at_entry(error, step.index) from error
        if step.standing is not None:
            step.id = step.standing.id
        else:
            first = creating.setdefault(repr((step.type, sorted(decoded(step.criteria)))), step)
            if first is not step:
                step.twin, step.id = first, first.id
    for step in plan.of("PUT"):
        if step.criteria is None:
            continue
        try:
            found = await only_match(context, step.type, step.criteria)
            resource = typed(codec.decode(step.request.body), step.type)
            change = await change_of(context, step.type, resource, found, if_match(step.request))
            step.id = change.id
        except FhirError as error:
            raise at_entry(error, step.index) from error
    for step in plan.of("PATCH"):
        if step.criteria is None:
            continue
        try:
            step.id = (await match_of(context, step.type, step.criteria)).id
        except FhirError as error:
            raise at_entry(error, step.index) from error
    refuse_overlap(plan)


def refuse_overlap(plan: Plan) -> None:
    """Conditions may have led two entries to one resource; creates that found the same match are no harm."""
    seen: dict[str, int] = {}
    for step in plan.steps:
        if step.kind in ("GET", "DELETE") or step.standing is not None or step.twin is not None:
            continue
        identity = f"{step.type}/{step.id}"
        if identity in seen:
            error = InvalidError(
                f"{identity} is what entry {seen[identity]} changes, too; a transaction changes each resource once.",
                code="duplicate",
                key="HS-TXN-DUPLICATE",
            )
            raise at_entry(error, step.index)
        seen[identity] = step.index


async def links_of(context: Context, plan: Plan, references: list[str]) -> Links:
    """Where every fullUrl and every conditional reference leads."""
    links = Links()
    for step in plan.steps:
        if step.kind in ("GET", "DELETE") or step.full_url is None:
            continue
        target = f"{step.type}/{step.id}"
        links.add(step.full_url, target)
        if "://" in step.full_url:
            # A relative reference is read from the fullUrl of the entry that holds it, so `Patient/1` names the entry
            # `http://any.server/base/Patient/1`.
            links.add("/".join(step.full_url.rsplit("/", 2)[-2:]), target)
    for reference in references:
        try:
            links.add(reference, await target_of(context, reference))
        except FhirError as error:
            raise at_entry(error, holder_of(plan, reference)) from error
    return links


async def target_of(context: Context, reference: str) -> str:
    """The one resource that a conditional reference selects."""
    resource_type, _, criteria = reference.partition("?")
    if not context.registry.is_resource_type(resource_type):
        raise InvalidError(
            f"The conditional reference {reference!r} names no resource type.", code="value", key="HS-TXN-REFERENCE"
        )
    found = await only_match(context, resource_type, criteria)
    if found is None:
        raise PreconditionFailedError(
            f"The conditional reference {reference!r} matches nothing on this server.",
            code="not-found",
            key="HS-TXN-REFERENCE",
        )
    return f"{resource_type}/{found.id}"


def holder_of(plan: Plan, reference: str) -> int:
    """The index of the first entry whose resource holds a conditional reference."""
    holders = (s.index for s in plan.steps if reference in conditional_references(s.request.body))
    return next(holders, 0)


async def write_all(context: Context, unit: Unit, steps: list[Step], links: Links) -> list[Committed]:
    """Decode, rewrite, validate and write, portion by portion; the faults of all entries are told together."""
    faults = Faults()
    done: list[Committed] = []
    async for portion in checked_portions(context, steps, links, faults):
        if faults:
            continue  # nothing will be committed; the rest is looked at for its faults only
        outcomes = await commit_portion(context, unit, portion)
        done += outcomes
        for (step, _), outcome in zip(portion, outcomes, strict=True):
            step.written = outcome.version
            step.answer = answered(step, outcome)
    faults.raise_any()
    for step in steps:
        if step.twin is not None and step.twin.written is not None:
            step.answer = answered(step, Committed(step.twin.written, created=False, changed=False))
    return done


async def checked_portions(
    context: Context, steps: list[Step], links: Links, faults: Faults
) -> AsyncIterator[list[tuple[Step, Checked]]]:
    portion: list[tuple[Step, Checked]] = []
    for number, step in enumerate(steps):
        if step.standing is not None:
            step.answer = answered(step, Committed(step.standing, created=False, changed=False))
            continue
        if step.twin is not None:
            continue
        try:
            if step.kind != "POST":
                await require_version(context, step.request, step.type, None if step.kind == "PATCH" else step.id)
            change = await patched(context, step, links) if step.kind == "PATCH" else change_from(step, links)
            portion.append((step, context.repository.check(change)))
        except FhirError as error:
            faults.add(error, step.index)
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def change_from(step: Step, links: Links) -> Change:
    """The change of one create or update, its links rewritten."""
    assert step.id is not None
    resource = typed(codec.decode(step.request.body), step.type)
    if step.kind == "PUT" and step.criteria is None:
        require_id(resource, step.type, step.id)
    if links.rewrite(resource):
        refuse_dangling(resource, step.type)
    if step.kind == "POST":
        return Change("POST", step.type, step.id, resource, fresh=True)
    return Change("PUT", step.type, step.id, resource, if_match=if_match(step.request))


async def patched(context: Context, step: Step, links: Links) -> Change:
    """The change that a patch makes of what its resource is now, the links in the patch rewritten."""
    assert step.id is not None

    def rewrite(part: dict[str, Any]) -> bool:
        dangling = links.rewrite(part)
        if dangling:
            refuse_dangling(part, step.type)
        return dangling

    return await patch_change(context, step.request, step.id, rewrite)


def refuse_dangling(resource: dict[str, Any], resource_type: str) -> None:
    """A `urn:uuid:` names something within the Bundle; one that is still there leads nowhere, now and for ever."""
    for node, path in codec.walk(resource, resource_type):
        reference = node.get("reference")
        if type(reference) is str and reference.startswith("urn:uuid:"):
            raise InvalidError(
                f"The reference {reference!r} names no entry of this Bundle.",
                code="not-found",
                expression=f"{path}.reference",
                key="HS-TXN-DANGLING",
            )


async def commit_portion(context: Context, unit: Unit, portion: list[tuple[Step, Checked]]) -> list[Committed]:
    """Write a portion; a change that cannot be made is told as its entry."""
    try:
        return await context.repository.commit_within(unit, [checked for _, checked in portion])
    except FailedChangeError as failed:
        raise at_entry(failed.cause, portion[failed.position][0].index) from failed
    except FhirError as error:  # of what is written along, which may name the resource that it belongs to
        index = next((s.index for s, c in portion if error.about == f"{c.change.type}/{c.change.id}"), None)
        raise (error if index is None else at_entry(error, index)) from error


def answered(step: Step, outcome: Committed) -> Answer:
    wanted = preferred_return(step.request, "minimal")
    answer = about(
        201 if outcome.created else 200, outcome.version.body if wanted == "representation" else None, outcome.version
    )
    answer.headers["Location"] = location_of(outcome.version, step.request.base_url)
    answer.touched = touched_by([outcome])
    return answer


async def read_one(context: Context, step: Step) -> None:
    """Reads come last and see what the transaction has written; one that fails undoes all."""
    try:
        step.answer = await context.dispatch(context, step.request)
    except FhirError as error:
        raise at_entry(error, step.index) from error
