"""delete, conditional delete of one or several matches, and deletion of what refers to a resource with it.

A deletion is a version of its own: the resource answers 410 from then on, and its history stays.

Spec: https://hl7.org/fhir/R4/http.html#delete, https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from __future__ import annotations

from collections import Counter
from urllib.parse import unquote

from fhir_server.interactions.answers import informational, preferred_return, touched_by
from fhir_server.interactions.conditional import lock_keys, process_locks, several
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import if_match
from fhir_server.interactions.provenance import commit, source_in
from fhir_server.model.errors import ConflictError, InvalidError, PreconditionFailedError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import ABSENT, Change, Checked, Committed, FailedChangeError
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

#: Resources that the answer to a cascade names.
MOST_NAMED = 100


async def delete(context: Context, request: Request) -> Answer:
    """DELETE [base]/[type]/[id]: 204, also where it is deleted already or never was; 409 where others refer to it and
    the server keeps references whole. With `_cascade=delete` those go, too: 200 with what went."""
    resource_type, resource_id = request.path
    change = Change("DELETE", resource_type, resource_id, if_match=if_match(request))
    if not cascades(request):
        return deleted(request, await commit(context, request, change))
    source = await source_in(context, request)

    async def work(unit: Unit) -> list[Committed]:
        gone = await delete_with_referrers(context, unit, [change])
        if source is not None:
            await source.attach(context, unit, gone)
        return gone

    return many_deleted(await context.repository.store.transact(work))


async def delete_conditional(context: Context, request: Request) -> Answer:
    """DELETE [base]/[type]?[criteria]: 204 where no more match than the server deletes at once, else 412."""
    (resource_type,) = request.path
    limit, expected = context.limits.conditional_delete, if_match(request)
    criteria, cascade = criteria_of(request.query), cascades(request)
    if limit == 1 and not cascade:
        return deleted(request, await delete_only_match(context, request, resource_type, criteria, expected))
    source = await source_in(context, request)
    keys = lock_keys(resource_type, criteria)
    await context.repository.store.ensure(resource_type)

    async def work(unit: Unit) -> list[Committed]:
        await unit.lock(keys)
        matches = await matches_of(context.within(unit), resource_type, criteria, limit)
        changes = [
            Change("DELETE", resource_type, m.id, if_match=m.version if expected is None else expected) for m in matches
        ]
        gone = await (delete_with_referrers if cascade else delete_these)(context, unit, changes)
        if source is not None:
            await source.attach(context, unit, gone)
        return gone

    async with process_locks(keys):
        gone = await context.repository.store.transact(work)
    if len(gone) < 2 and not cascade:
        return deleted(request, gone[0] if gone else None)
    if cascade or preferred_return(request, "minimal") == "OperationOutcome":
        return many_deleted(gone)
    return Answer(204, touched=touched_by(gone))


async def delete_only_match(
    context: Context, request: Request, resource_type: str, criteria: str, if_match: int | None
) -> Committed | None:
    """Delete the one match; None where nothing matches."""
    while True:
        matches = await matches_of(context, resource_type, criteria, 1)
        if not matches:
            return None
        found = matches[0]
        try:
            # The match is deleted only as it was when it matched: a change in between may have ended the match.
            change = Change("DELETE", resource_type, found.id, if_match=found.version if if_match is None else if_match)
            return await commit(context, request, change)
        except PreconditionFailedError:
            if if_match is not None:
                raise
        except ConflictError as error:
            if if_match is not None or any(issue.key == "HS-REF-IN-USE" for issue in error.issues):
                raise


async def matches_of(context: Context, resource_type: str, criteria: str, limit: int) -> list[Version]:
    """What criteria select, at most `limit`.

    Raises:
        PreconditionFailedError: 412; they select more; it tells how many.
    """
    matches = await context.searcher.matches(resource_type, criteria, limit=limit + 1)
    if len(matches) > limit:
        count = await context.searcher.count(resource_type, criteria)
        raise several(resource_type, criteria, count, limit)
    return matches


async def delete_these(context: Context, unit: Unit, changes: list[Change]) -> list[Committed]:
    """Carry out deletions inside a transaction."""
    try:
        outcomes = await context.repository.commit_within(unit, [Checked(change) for change in changes])
    except FailedChangeError as failed:
        raise failed.cause from failed
    return [outcome for outcome in outcomes if outcome.changed]


async def delete_with_referrers(context: Context, unit: Unit, roots: list[Change]) -> list[Committed]:
    """Delete resources, what refers to them, what refers to that, and so on, inside a transaction.

    Raises:
        UnprocessableError: 422; there are more than the server deletes at once.
    """
    limit = context.limits.cascade
    going = {f"{change.type}/{change.id}": change for change in roots}
    frontier = list(going)
    while frontier:
        found = await context.repository.integrity.referrers(unit, frontier, (), limit + 1)
        frontier = [target for target in found if target not in going]
        for target in frontier:
            resource_type, _, resource_id = target.partition("/")
            going[target] = Change("DELETE", resource_type, resource_id)
        if len(going) > limit or len(found) > limit:
            raise UnprocessableError(
                f"More than {limit:,} resources would go with {', '.join(list(going)[: min(len(roots), 3)])}; this "
                "server deletes no more at once. Nothing was deleted.",
                code="too-costly",
                key="HS-CASCADE-SIZE",
            )
    return await delete_these(context, unit, list(going.values()))


def cascades(request: Request) -> bool:
    """Whether what refers to a resource is to go with it: `_cascade=delete`, or the header `X-Cascade: delete`.

    Raises:
        InvalidError: 400; it is asked for in words that are not known.
    """
    asked = [value for name, value in request.parameters if name == "_cascade"]
    asked += [request.headers["x-cascade"].strip()] if "x-cascade" in request.headers else []
    unknown = [value for value in asked if value.lower() not in ("delete", "none")]
    if unknown:
        raise InvalidError(
            f"`_cascade` is {unknown[0][:40]!r}; expected delete or none.", code="value", key="HS-CASCADE"
        )
    return any(value.lower() == "delete" for value in asked)


def criteria_of(query: str) -> str:
    """The criteria without what says how to delete."""
    return "&".join(p for p in query.split("&") if unquote(p.partition("=")[0]) != "_cascade")


def deleted(request: Request, outcome: Committed | None) -> Answer:
    version = outcome.version if outcome is not None else None
    number = None if version is None or version.version == ABSENT else version.version
    touched = touched_by([outcome]) if outcome is not None else ()
    if preferred_return(request, "minimal") == "OperationOutcome":
        text = (
            "Nothing matched; nothing was deleted."
            if version is None or number is None
            else f"{version.type}/{version.id} is deleted (version {version.version})."
        )
        return Answer(200, informational(text), version=number, touched=touched)
    return Answer(204, version=number, touched=touched)


def many_deleted(gone: list[Committed]) -> Answer:
    """200 with what was deleted: how many of each type, and their names."""
    counts = Counter(outcome.version.type for outcome in gone)
    names = [f"{outcome.version.type}/{outcome.version.id}" for outcome in gone[:MOST_NAMED]]
    more = f" and {len(gone) - MOST_NAMED:,} more" if len(gone) > MOST_NAMED else ""
    by_type = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    told = f": {by_type} ({', '.join(names)}{more})" if gone else ""
    return Answer(200, informational(f"{len(gone):,} resources were deleted{told}."), touched=touched_by(gone))
