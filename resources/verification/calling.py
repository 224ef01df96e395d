"""`Practitioner/$apply`, and `$approve`, `$refuse`, `$revalidate` of claims and of whole applications.

Who decides is another person than who applied, and two different ones approve. Each decision stands in the claim with
who made it, when and why; the audit trail has the call.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.answers import about, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import ForbiddenError, InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.reasons import weighed_reason
from resources.verification.deciding import Decision, decide_within
from resources.verification.licence import is_licence
from resources.verification.process import TYPES, Application, Person, apply_within
from resources.verification.words import (
    APPROVE,
    EDUCATION,
    LICENCE,
    REFUSE,
    REVALIDATE,
    SYSTEMS,
    is_claim,
    kind_of_qualification,
)

Json = dict[str, Any]

#: Who files for others.
FILING: Final = frozenset({"administrator", *SYSTEMS})

#: What a licence needs, so that anybody can look it up.
NEEDED: Final = ("identifier", "issuer", "period")


async def prepare(context: Context) -> None:
    """Have the collections that a transaction writes to."""
    for name in TYPES:
        await context.repository.store.ensure(name)


async def apply(context: Context, request: Request) -> Answer:
    """Apply, or hand something in: 200 with the Task.

    Raises:
        NotFoundError: 404; there is no such Practitioner for the caller.
        ForbiddenError: 403; it is somebody else.
        ConflictError: 409; there is nothing new to verify.
        UnprocessableError: 422; a licence lacks what it can be looked up by.
    """
    inputs = Inputs.of(request, bare="practitioner")
    inputs.only("practitioner")
    person = await context.seen.repository.read("Practitioner", request.path[1])
    await _require_own(context, f"Practitioner/{person.id}")
    proposed = _handed_in(context, inputs.resource("practitioner"))
    await prepare(context)

    async def work(unit: Unit) -> Application:
        return await apply_within(context, unit, f"Practitioner/{person.id}", Person.of(context.caller), proposed)

    application = await context.repository.store.transact(work)
    await tell_accounts(context, application)
    return _answer(application, "Task")


async def _require_own(context: Context, practitioner: str) -> None:
    if context.caller.identity.role in FILING:
        return
    if await Person.of(context.caller).practitioner(context.seen.repository.read) != practitioner:
        raise ForbiddenError("People apply for themselves.", key="HS-VERIFY-OWN")


def _handed_in(context: Context, practitioner: Json | None) -> list[Json]:
    """The qualifications that are handed in.

    Raises:
        InvalidError: 400; it is no Practitioner, or not a valid one.
        UnprocessableError: 422; a licence lacks what it can be looked up by.
    """
    if practitioner is None:
        return []
    place = "Parameters.parameter.where(name='practitioner').resource"
    if practitioner.get("resourceType") != "Practitioner":
        raise InvalidError("A Practitioner with what is handed in was expected.", expression=place, key="HS-OP-BODY")
    issues = [issue for issue in context.repository.issues_of(practitioner) if issue.severity in ("error", "fatal")]
    if issues:
        raise InvalidError(issues)
    rows: list[Json] = practitioner.get("qualification", [])
    for number, row in enumerate(rows):
        at = f"{place}.qualification[{number}]"
        if kind_of_qualification(row) not in (LICENCE, EDUCATION):
            raise UnprocessableError(
                "A licence has an identifier, a degree a code of v2-0360; this is neither.",
                key="HS-VERIFY-LICENCE",
                expression=at,
            )
        missing = [name for name in NEEDED if not row.get(name)] if is_licence(row) else []
        if missing:
            raise UnprocessableError(
                f"A licence needs its {' and its '.join(missing)}, to be looked up where it was issued.",
                key="HS-VERIFY-LICENCE",
                expression=at,
            )
    return rows


async def approve(context: Context, request: Request) -> Answer:
    """Approve a claim, or all of an application: 200 with it as it is now. The second of two makes it valid."""
    inputs = Inputs.of(request)
    inputs.only("source", "note")
    return await _decide(context, request, APPROVE, inputs.text("note") or "", inputs.text("source") or "")


async def refuse(context: Context, request: Request) -> Answer:
    """Refuse a claim, or all of an application, with a `reason`: 200 with it as it is now."""
    inputs = Inputs.of(request)
    inputs.only("reason")
    return await _decide(context, request, REFUSE, weighed_reason(inputs, "HS-VERIFY-REASON"))


async def revalidate(context: Context, request: Request) -> Answer:
    """Open a claim, or an application, again, with a `reason`: the doctor is hidden at once."""
    inputs = Inputs.of(request)
    inputs.only("reason")
    return await _decide(context, request, REVALIDATE, weighed_reason(inputs, "HS-VERIFY-REASON"))


async def _decide(context: Context, request: Request, what: str, note: str, source: str = "") -> Answer:
    kind, key = request.path[0], request.path[1]
    claim, practitioner = "", f"{kind}/{key}"
    if kind == "VerificationResult":
        claim, practitioner = key, await _whose(context, key)
    else:
        await context.seen.repository.read("Practitioner", key)
    decision = Decision(what, Person.of(context.caller), note, source, claim)
    application = await decided(context, practitioner, decision)
    return _answer(application, f"VerificationResult/{claim}" if claim else "Task")


async def decided(context: Context, practitioner: str, decision: Decision) -> Application:
    """Decide, and have the account of the doctor say the same."""
    await prepare(context)

    async def work(unit: Unit) -> Application:
        return await decide_within(context, unit, practitioner, decision)

    application = await context.repository.store.transact(work)
    await tell_accounts(context, application)
    return application


async def tell_accounts(context: Context, application: Application) -> None:
    for account in context.standings:
        await account.follow(
            application.reference,
            application.state,
            [(d.who, d.what, d.at, d.note) for d in application.decisions],
            application.version,
        )


async def _whose(context: Context, claim: str) -> str:
    """Whose claim it is.

    Raises:
        NotFoundError: 404; there is no such claim of this process.
    """
    version = await context.seen.repository.current("VerificationResult", claim)
    result = codec.decode(version.body) if version is not None and version.body is not None else {}
    target = next((str(one.get("reference", "")) for one in result.get("target", ())), "")
    if not is_claim(result) or not target.startswith("Practitioner/"):
        raise NotFoundError(f"There is no claim VerificationResult/{claim}.", key="HS-VERIFY-NONE")
    return target


def _answer(application: Application, which: str) -> Answer:
    """The Task of an application, or one of its claims, as it is now."""
    versions = [committed.version for committed in application.made]
    named = {v.type if which == "Task" else f"{v.type}/{v.id}": v for v in versions}
    version: Version = named[which]
    answer = about(200, version.body, version)
    answer.touched = touched_by(application.made)
    return answer
