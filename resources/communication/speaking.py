"""Who calls an operation of conversations, what they see of them, and writing several versions as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.access import NOBODY
from fhir_server.model.errors import ForbiddenError, InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer
from fhir_server.repository.repository import Change, Committed, FailedChangeError
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.communication.members import selves_of
from resources.communication.words import is_header, participants_of, reference_of, thread_of

Json = dict[str, Any]

#: Who may act on conversations in which they take no part: who runs the server, and programs that import history.
MACHINES = frozenset({"system", "operator"})


def speaker_of(context: Context, inputs: Inputs | None = None) -> str:
    """As whom the caller speaks: the resource of the token's user; a program names somebody as `sender`.

    Raises:
        ForbiddenError: 403; a person without a resource of their own.
        UnprocessableError: 422; a program does not say in whose name.
    """
    identity = context.caller.identity
    if identity.role in MACHINES:
        named = reference_in(inputs, "sender") if inputs is not None else None
        if named is None:
            raise UnprocessableError(
                "Say in whose name: `sender` is a reference to who speaks.", key="HS-CHAT-SENDER", code="required"
            )
        return named
    if identity.fhir_user is None:
        raise ForbiddenError(
            "To take part in conversations you need a resource of your own (fhirUser).", key="HS-CHAT-NOBODY"
        )
    return identity.fhir_user


def reference_in(inputs: Inputs, name: str) -> str | None:
    """A parameter that is a reference, as a Reference or its text."""
    return next(iter(references_in(inputs, name)), None)


def references_in(inputs: Inputs, name: str) -> list[str]:
    """Parameters that are references.

    Raises:
        InvalidError: 400; one is none to a resource of this server.
    """
    found = []
    for value in inputs.all(name):
        reference = reference_of(value if type(value) is dict else {"reference": value})
        if not reference:
            raise InvalidError(
                f"{name!r} is {str(value)[:80]!r}; a reference to a resource of this server was expected.",
                code="value",
                expression=f"Parameters.parameter.where(name='{name}')",
                key="HS-OP-PARAMETER",
            )
        found.append(reference)
    return found


async def header_seen(context: Context, thread_id: str) -> tuple[Version, Json]:
    """A thread in which the caller takes part.

    Raises:
        NotFoundError: 404; there is none.
    """
    version = await context.seen.repository.read("Communication", thread_id)
    header = codec.decode(version.body or b"")
    if not is_header(header):
        raise NotFoundError(f"Communication/{thread_id} is no thread.", key="HS-CHAT-NO-THREAD")
    await require_part(context, header)
    return version, header


async def message_seen(context: Context, message_id: str) -> tuple[Version, Json]:
    """A message that the caller sees.

    Raises:
        NotFoundError: 404; there is none.
    """
    version = await context.seen.repository.read("Communication", message_id)
    message = codec.decode(version.body or b"")
    if thread_of(message) is None:
        raise NotFoundError(f"Communication/{message_id} is no message of a thread.", key="HS-CHAT-NO-MESSAGE")
    return version, message


async def require_part(context: Context, header: Json) -> None:
    """Raises NotFoundError: 404; the caller takes no part in the thread, which is then not there for them."""
    identity = context.caller.identity
    if identity.role in MACHINES:
        return
    mine = await selves_of(context.repository.store.unguarded, identity.fhir_user or "")
    if not mine & participants_of(header):
        raise NotFoundError(
            f"There is no thread Communication/{header.get('id')} in which you take part.", key="HS-CHAT-NO-THREAD"
        )


async def written(context: Context, work: Callable[[Unit], Awaitable[list[Committed]]], *types: str) -> list[Committed]:
    """Several versions in one transaction."""
    for resource_type in ("Communication", *types):
        await context.repository.store.ensure(resource_type)
    try:
        return await context.repository.store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed


def by_server(context: Context) -> Context:
    """The same server, that writes in its own name."""
    return replace(context, repository=context.repository.speaking_for(NOBODY), caller=NOBODY)


async def committed(context: Context, unit: Unit, changes: Sequence[Change]) -> list[Committed]:
    repository = context.repository
    return await repository.commit_within(unit, [repository.check(change) for change in changes])


async def altered(context: Context, resource_type: str, name: str, by: str, alter: Callable[[Json], Json]) -> Committed:
    """A resource, read and written anew in one transaction; whoever comes in between is seen."""

    async def work(unit: Unit) -> list[Committed]:
        version = await context.within(unit).repository.read(resource_type, name)
        resource = alter(codec.decode(version.body or b""))
        change = Change("PUT", resource_type, name, resource, if_match=version.version, by=by)
        return await committed(context, unit, [change])

    return (await written(context, work, resource_type))[0]


def shown(outcomes: Sequence[Committed], status: int = 200, base_url: str = "") -> Answer:
    """The first of some versions as the answer; all of them for the audit trail."""
    version = outcomes[0].version
    headers = (
        {"Location": f"{base_url}/{version.type}/{version.id}/_history/{version.version}"} if status == 201 else {}
    )
    return Answer(
        status,
        version.body,
        headers,
        version=version.version,
        moment_us=version.moment_us,
        touched=touched_by(list(outcomes)),
    )
