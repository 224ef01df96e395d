"""patch, and conditional patch: part of a resource is changed, in whatever version it is then.

Without `If-Match` a patch that other writers forestall is applied again to what they have made, so that of many patches
at once all take effect.

Spec: https://hl7.org/fhir/R4/http.html#patch, https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fhir_server.interactions.answers import written
from fhir_server.interactions.binary import completed
from fhir_server.interactions.conditional import lock_keys, only_match, process_locks
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import if_match, require_version
from fhir_server.interactions.provenance import source_in
from fhir_server.interactions.update import ID, malformed_id
from fhir_server.model.errors import NotFoundError
from fhir_server.model.exchange import Answer, Request
from fhir_server.patching.formats import Patch, Rewrite, patch_of
from fhir_server.repository.changes import Json
from fhir_server.repository.repository import Change, Committed, amended
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit


async def patch(context: Context, request: Request) -> Answer:
    """PATCH [base]/[type]/[id]: 200; 404 or 410 where nothing is, 412 where `If-Match` names another version."""
    resource_type, resource_id = request.path
    if not ID.fullmatch(resource_id):
        raise malformed_id(resource_type, resource_id)
    change = patch_in(context, request)
    expected = if_match(request)
    await require_version(context, request, resource_type, None)

    async def find(within: Context) -> Version:
        return await within.repository.read(resource_type, resource_id)

    # Patches of one resource would only forestall each other: within this process they take turns.
    async with process_locks([f"{resource_type}/{resource_id}"]):
        committed = await amend(context, request, find, change.apply, expected)
    return await completed(context, request, written(request, committed, "was patched"), committed)


async def patch_conditional(context: Context, request: Request) -> Answer:
    """PATCH [base]/[type]?[criteria]: 200; 404 where nothing matches, 412 where several do.

    The match is patched as it was when it matched: a change in between may have ended that, so then the search is made
    again.
    """
    (resource_type,) = request.path
    change = patch_in(context, request)
    await require_version(context, request, resource_type, None)

    async def find(within: Context) -> Version:
        return await match_of(within, resource_type, request.query)

    expected = if_match(request)
    async with process_locks(lock_keys(resource_type, request.query)):
        committed = await amend(context, request, find, change.apply, expected)
    return await completed(context, request, written(request, committed, "was patched"), committed)


async def amend(
    context: Context,
    request: Request,
    find: Callable[[Context], Awaitable[Version]],
    alter: Callable[[Json], Json],
    if_match: int | None,
) -> Committed:
    """Alter the version that `find` gives, and store with it what the request says of its source."""
    source = await source_in(context, request)
    if source is None:
        return await context.repository.amend(lambda: find(context), alter, if_match=if_match)
    await context.repository.store.ensure(request.path[0])

    async def work(unit: Unit) -> Committed:
        current = await find(context.within(unit))
        checked = context.repository.check(amended(current, alter, if_match))
        outcome = await context.repository.commit_one_within(unit, checked)
        await source.attach(context, unit, [outcome])
        return outcome

    return await context.repository.store.transact(work)


def patch_in(context: Context, request: Request, rewrite: Rewrite | None = None) -> Patch:
    """The patch of a request's body; its links are rewritten where `rewrite` is given.

    Raises:
        UnsupportedMediaTypeError: 415; the body is of a type that is no patch.
        InvalidError: 400; it cannot be read.
    """
    found = patch_of(request.body, request.content_type, request.path[0], context.registry)
    return found if rewrite is None else found.linked(rewrite)


async def match_of(context: Context, resource_type: str, criteria: str) -> Version:
    """The one resource that criteria select.

    Raises:
        NotFoundError: 404; they select none.
        PreconditionFailedError: 412; they select several.
    """
    found = await only_match(context, resource_type, criteria)
    if found is None:
        raise NotFoundError(
            f"No {resource_type} matches {criteria!r}; there is nothing to patch.", key="HS-PATCH-NO-MATCH"
        )
    return found


async def patch_change(context: Context, request: Request, resource_id: str, rewrite: Rewrite) -> Change:
    """What a patch in a transaction amounts to, given which resource it is for.

    Raises:
        NotFoundError: 404; there is no such resource.
        GoneError: 410; it is deleted.
        PreconditionFailedError: 412; `If-Match` names another version.
    """
    change = patch_in(context, request, rewrite)
    current = await context.repository.read(request.path[0], resource_id)
    return amended(current, change.apply, if_match(request))
