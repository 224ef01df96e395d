"""transaction: the entries of a Bundle as one change, all or nothing.

The order is the specification's: deletions, creates, updates, reads; identities and conditional references are settled
first, so that entries can name each other in any order. A large Bundle is decoded, validated and written in portions
inside one MongoDB transaction: only its bytes and one portion are in memory.

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fhir_server.interactions.answers import about, location_of, preferred_return, typed
from fhir_server.interactions.bundle import Envelope
from fhir_server.interactions.conditional import change_of, lock_keys, only_match, process_locks
from fhir_server.interactions.context import Context
from fhir_server.interactions.entries import at_entry, request_of_entry, response_entry, response_of
from fhir_server.interactions.linking import Links, conditional_references
from fhir_server.interactions.preconditions import if_match
from fhir_server.interactions.update import ID, malformed_id, require_id
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import FhirError, InvalidError, Issue, MethodNotAllowedError, PreconditionFailedError
from fhir_server.model.exchange import Answer, Request, decoded
from fhir_server.repository.repository import ABSENT, Change, Checked, Committed, FailedChangeError
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

#: Entries decoded, validated and written at a time.
PORTION = 500

#: How long validation may hold the event loop, in entries; then others get their turn.
BREATH = 25

#: Faults told at most; a Bundle of thousands may have the same one everywhere.
MOST_ISSUES = 100

Kind = Literal["DELETE", "POST", "PUT", "GET"]


@dataclass(slots=True)
class Step:
    """One entry: what it wants, which resource it will be, and what came of it.

    `standing` is the match of a conditional create, `twin` an earlier entry that creates under the same criteria, and
    `written` the version that the entry made.
    """

    index: int
    kind: Kind
    request: Request
    type: str
    full_url: str | None
    id: str | None = None
    criteria: str | None = None
    standing: Version | None = None
    twin: Step | None = None
    written: Version | None = None
    response: bytes | None = None


@dataclass(slots=True)
class Plan:
    """The steps of a transaction in the order of the request."""

    steps: list[Step] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Step]:
        return [step for step in self.steps if step.kind == kind]

    def lock_keys(self) -> list[str]:
        conditional = (s for s in self.steps if s.criteria is not None and s.kind != "DELETE")
        return sorted({key for s in conditional for key in lock_keys(s.type, s.criteria or "")})


async def transaction(context: Context, request: Request, bundle: Envelope) -> Answer:
    """Carry out all entries; the response has one entry per entry of the request, in its order.

    Raises:
        FhirError: whatever the first failing kind of entry deserves; each issue names its entry. Nothing is changed
        then.
    """
    plan = await planned(context, request, bundle)
    references = sorted(conditional_references(request.body))
    for name in sorted({s.type for s in plan.steps if s.kind in ("POST", "PUT", "DELETE")}):
        await context.repository.store.ensure(name)

    async def work(unit: Unit) -> None:
        inner = context.within(unit)
        await unit.lock(plan.lock_keys())
        await delete_all(inner, unit, plan)
        await settle(inner, plan)
        links = await links_of(inner, plan, references)
        await write_all(inner, unit, [*plan.of("POST"), *plan.of("PUT")], links)
        for step in plan.of("GET"):
            await read_one(inner, step)

    async with process_locks(plan.lock_keys()):
        await context.repository.store.transact(work)
    return Answer(200, response_of("transaction-response", [step.response or b"{}" for step in plan.steps]))


async def planned(context: Context, request: Request, bundle: Envelope) -> Plan:
    """Read every entry's request; all that is wrong with any of them is told at once."""
    plan = Plan()
    faults = Faults()
    seen: dict[str, int] = {}
    for index, entry in enumerate(bundle.entry):
        try:
            inner = request_of_entry(request, entry, index)
            step = step_of(context, index, inner, entry.fullUrl)
            plan.steps.append(step)
            identity = f"{step.type}/{step.id}" if step.id is not None and step.kind != "GET" else None
            for name in {identity, entry.fullUrl if step.kind != "GET" else None} - {None}:
                assert name is not None
                if name in seen:
                    raise InvalidError(
                        f"{name} is in entry {seen[name]} already; a transaction changes each resource once.",
                        code="duplicate",
                        key="HS-TXN-DUPLICATE",
                    )
                seen[name] = index
        except FhirError as error:
            faults.add(error, index)
        if index % PORTION == PORTION - 1:
            await asyncio.sleep(0)
    faults.raise_any()
    return plan


def step_of(context: Context, index: int, request: Request, full_url: str | None) -> Step:
    """What an entry wants, from its method and url."""
    method, path = request.method, request.path
    if method == "GET":
        return Step(index, "GET", request, path[0] if path else "", full_url)
    if not path or not context.registry.is_resource_type(path[0]):
        raise InvalidError(f"The url {'/'.join(path)!r} names no resource type.", code="value", key="HS-TXN-URL")
    step: Step | None = None
    match method, len(path), bool(request.query):
        case "POST", 1, False:
            criteria = request.headers.get("if-none-exist")
            step = Step(index, "POST", request, path[0], full_url)
            step.criteria = criteria.rpartition("?")[2] if criteria is not None else None
        case (("PUT" | "DELETE"), 2, False):
            step = Step(index, "PUT" if method == "PUT" else "DELETE", request, path[0], full_url, id=path[1])
            if not ID.fullmatch(path[1]):
                raise malformed_id(path[0], path[1])
        case (("PUT" | "DELETE"), 1, True):
            step = Step(index, "PUT" if method == "PUT" else "DELETE", request, path[0], full_url)
            step.criteria = request.query
    if step is None:
        address = "/".join(path) + (f"?{request.query}" if request.query else "")
        raise MethodNotAllowedError(
            f"{method} {address} is not possible in a transaction.",
            key="HS-TXN-METHOD",
        )
    if step.kind in ("POST", "PUT") and not request.body:
        raise InvalidError("The entry has no resource; one was expected.", code="required", key="HS-TXN-RESOURCE")
    return step


class Faults:
    """What is wrong with entries, gathered so that a client mends them all at once."""

    def __init__(self) -> None:
        self._first: FhirError | None = None
        self._issues: list[Issue] = []

    def __bool__(self) -> bool:
        return self._first is not None

    def add(self, error: FhirError, index: int) -> None:
        told = at_entry(error, index)
        self._first = self._first or told
        self._issues.extend(told.issues)

    def raise_any(self) -> None:
        """Raise the first fault's kind with the issues of all."""
        if self._first is not None:
            issues = self._issues[:MOST_ISSUES]
            if (more := len(self._issues) - len(issues)) > 0:
                issues.append(Issue("informational", f"{more} further issues are not shown.", severity="information"))
            raise type(self._first)(issues, headers=self._first.headers)


async def delete_all(context: Context, unit: Unit, plan: Plan) -> None:
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
                step.response = response_entry(step.request, Answer(204))
                continue
            changes.append((step, Checked(Change("DELETE", step.type, resource_id, if_match=expected), {})))
        except FhirError as error:
            raise at_entry(error, step.index) from error
    outcomes = await commit_portion(context, unit, changes)
    for (step, _), outcome in zip(changes, outcomes, strict=True):
        number = outcome.version.version
        step.response = response_entry(step.request, Answer(204, version=None if number == ABSENT else number))


async def settle(context: Context, plan: Plan) -> None:
    """Decide which resource each create and update will be, before any content is looked at."""
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


async def write_all(context: Context, unit: Unit, steps: list[Step], links: Links) -> None:
    """Decode, rewrite, validate and write, portion by portion; the faults of all entries are told together."""
    faults = Faults()
    async for portion in checked_portions(context, steps, links, faults):
        if faults:
            continue  # nothing will be committed; the rest is looked at for its faults only
        outcomes = await commit_portion(context, unit, portion)
        for (step, _), outcome in zip(portion, outcomes, strict=True):
            step.written = outcome.version
            step.response = answered(step, outcome)
    faults.raise_any()
    for step in steps:
        if step.twin is not None and step.twin.written is not None:
            step.response = answered(step, Committed(step.twin.written, created=False))


async def checked_portions(
    context: Context, steps: list[Step], links: Links, faults: Faults
) -> AsyncIterator[list[tuple[Step, Checked]]]:
    portion: list[tuple[Step, Checked]] = []
    for number, step in enumerate(steps):
        if step.standing is not None:
            step.response = answered(step, Committed(step.standing, created=False))
            continue
        if step.twin is not None:
            continue
        try:
            portion.append((step, context.repository.check(change_from(step, links))))
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


def answered(step: Step, outcome: Committed) -> bytes:
    wanted = preferred_return(step.request, "minimal")
    answer = about(
        201 if outcome.created else 200, outcome.version.body if wanted == "representation" else None, outcome.version
    )
    answer.headers["Location"] = location_of(outcome.version, step.request.base_url)
    return response_entry(step.request, answer)


async def read_one(context: Context, step: Step) -> None:
    """Reads come last and see what the transaction has written; one that fails undoes all."""
    try:
        step.response = response_entry(step.request, await context.dispatch(context, step.request))
    except FhirError as error:
        raise at_entry(error, step.index) from error
