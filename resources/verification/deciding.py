"""Deciding on claims, and what follows: the Task, the Practitioner, and that the doctor is told. And licences that end.

Spec: https://hl7.org/fhir/R4/verificationresult.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import ConflictError, ForbiddenError, NotFoundError, UnprocessableError
from fhir_server.storage.unit import Unit
from resources.notification.outbox import notify_within
from resources.verification.licence import is_licensed, marked
from resources.verification.process import Application, Person, as_person, begin, opened, read_application, written
from resources.verification.words import (
    APPLY,
    APPROVE,
    EVIDENCE,
    EXPIRE,
    LICENCE,
    OPEN,
    REFUSE,
    REVALIDATE,
    VALID,
    approvers,
    claims_in,
    claims_of,
    concept,
    decision_row,
    decisions_in,
    evidence_of,
    kind_of,
    name_of,
    proposal_in,
    with_qualifications,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decides.

    Attributes:
        what: `approve`, `refuse` or `revalidate`
        who: who decides
        note: why
        source: against what it was checked (a register, a document)
        claim: the one that is meant; all of the application where it is empty
    """

    what: str
    who: Person
    note: str = ""
    source: str = ""
    claim: str = ""


async def decide_within(context: Context, unit: Unit, practitioner: str, decision: Decision) -> Application:
    """Decide on one claim, or on all that an application claims.

    Raises:
        NotFoundError: 404; there is no such Practitioner, or no such claim.
        ForbiddenError: 403; it is the caller's own application, or they have approved before.
        UnprocessableError: 422; the state of the claim does not allow it, or a licence has ended.
        ConflictError: 409; what was claimed has changed.
    """
    await begin(context, unit, practitioner)
    application = await read_application(unit, practitioner)
    await _require_apart(unit, application, decision.who)
    now_us = context.timers.now()
    begins = application.task is None and not decision.claim
    if begins:
        opened(application, decision.who, now_us, APPLY)
        await written(context, unit, application, APPLY)
        application = await read_application(unit, practitioner)
    # Of somebody who was imported, or verified before there were claims, to open the application is all there is to do.
    for claim in () if begins and decision.what == REVALIDATE else _meant(application, decision):
        application.put(_decided(context, application, claim, decision, now_us))
    _concluded(application, decision)
    application = await written(context, unit, application, decision.what)
    await _told(context, unit, application, decision)
    return application


async def _require_apart(unit: Unit, application: Application, who: Person) -> None:
    if await who.practitioner(unit.unguarded.get) == application.reference:
        raise ForbiddenError("Nobody decides on their own application.", key="HS-VERIFY-APART")


#: The states in which each decision is possible, and the word for those.
_WAITING: Final = {APPROVE: OPEN, REFUSE: OPEN, REVALIDATE: frozenset({VALID, "val-fail", "reval-fail"})}


def _meant(application: Application, decision: Decision) -> list[Json]:
    """The claims that a decision is about.

    Raises:
        NotFoundError: 404; there is no such claim.
        ForbiddenError: 403; the caller has approved all of them.
        UnprocessableError: 422; none is in a state for it.
    """
    ids = claims_in(application.task or {})
    if decision.claim:
        if decision.claim not in application.claims:
            raise NotFoundError(f"There is no claim VerificationResult/{decision.claim}.", key="HS-VERIFY-NONE")
        ids = [decision.claim]
    claims = [application.claims[key] for key in ids if key in application.claims]
    fitting = [one for one in claims if one["status"] in _WAITING[decision.what]]
    if not fitting:
        told = f"is {claims[0]['status']!r}" if decision.claim else f"is {application.state}"
        able = [f"${what}" for what, states in _WAITING.items() if any(one["status"] in states for one in claims)]
        whose = f"VerificationResult/{decision.claim}" if decision.claim else "The application"
        raise UnprocessableError(
            f"{whose} {told}: only {' or '.join(able)} is possible.", key="HS-VERIFY-STATE", expression="status"
        )
    if decision.what != APPROVE:
        return fitting
    others = [one for one in fitting if decision.who.subject not in approvers(decisions_in(one))]
    if not others:
        raise ForbiddenError("You have approved this already: somebody else must, too.", key="HS-VERIFY-APART")
    return others


def _decided(context: Context, application: Application, claim: Json, decision: Decision, now_us: int) -> Json:
    """A claim with one decision more."""
    now, status = instant_of(now_us), claim["status"]
    row = decision_row(decision.who.reference(), decision.what, now, decision.note)
    claim = {**claim, "extension": [*claim.get("extension", ()), row], "statusDate": now}
    if decision.what == REFUSE:
        return {**claim, "status": "reval-fail" if status == "req-revalid" else "val-fail"}
    if decision.what == REVALIDATE:
        return {**claim, "status": "req-revalid"}
    _require_as_claimed(application, claim, now_us)
    source: Json = {"validationDate": now}
    if decision.source:
        source["who"] = {"display": decision.source}
    source["validationStatus"] = concept("http://terminology.hl7.org/CodeSystem/validation-status", "successful")
    claim["primarySource"] = [*claim.get("primarySource", ()), source]
    if len(approvers(decisions_in(claim))) >= context.limits.doctor_approvals:
        if proposal := proposal_in(claim):
            application.put(with_qualifications(application.practitioner, [proposal]))
            claim = _without_proposal(claim)
        return {**claim, "status": VALID, "lastPerformed": now}
    return {**claim, "status": "in-process" if status == "attested" else status}


def _without_proposal(claim: Json) -> Json:
    """A claim whose qualification is now that of the Practitioner."""
    extensions = [row for row in claim["extension"] if row.get("url") != f"{EVIDENCE}-proposed"]
    return {**{name: value for name, value in claim.items() if name != "contained"}, "extension": extensions}


def _require_as_claimed(application: Application, claim: Json, now_us: int) -> None:
    """What is approved is what was claimed, and a licence that holds.

    Raises:
        ConflictError: 409; it has changed.
        UnprocessableError: 422; the licence has ended.
    """
    proposal = proposal_in(claim)
    current = {one.id: one for one in claims_of(application.practitioner, [proposal] if proposal else ())}
    found = current.get(claim["id"])
    if found is None or found.evidence != evidence_of(claim):
        raise ConflictError(
            f"What VerificationResult/{claim['id']} is about has changed since it was claimed: $apply again.",
            key="HS-VERIFY-CHANGED",
        )
    if kind_of(claim) == LICENCE and not is_licensed(as_person(found), now_us):
        raise UnprocessableError(
            "The licence is not in force: hand in the one that is with Practitioner/[id]/$apply.",
            key="HS-VERIFY-ENDED",
            expression="Practitioner.qualification.period",
        )


def _concluded(application: Application, decision: Decision) -> None:
    """What follows from a decision for the Task and for the Practitioner."""
    task = application.task or {}
    claims = [application.claims[key] for key in claims_in(task) if key in application.claims]
    reason = {"statusReason": {"text": decision.note}} if decision.note else {}
    kept = {name: value for name, value in task.items() if name != "statusReason"}
    if decision.what == REFUSE:
        task = {**kept, "status": "rejected", **reason}
    elif decision.what == REVALIDATE:
        task = {**kept, "status": "requested", **reason}
        application.put({**application.practitioner, "active": False})
    elif claims and all(one["status"] == VALID for one in claims):
        task = {**kept, "status": "completed"}
        application.put({**application.practitioner, "active": True})
    elif task["status"] != "rejected":  # a claim that was refused is handed in again
        task = {**kept, "status": "in-progress"}
    application.put({**task, "lastModified": max(one["statusDate"] for one in claims)})


async def _told(context: Context, unit: Unit, application: Application, decision: Decision) -> None:
    """The doctor hears of what is decided at last."""
    if (application.task or {}).get("status") in ("completed", "rejected") or decision.what == REVALIDATE:
        name = name_of(application.reference)
        key = f"{name}/{application.version}"
        await notify_within(context, unit, application.reference, "verification", f"Task/{name}", key=key)


# --- licences that end ------------------------------------------------------------------------------------------------


async def expire_within(context: Context, unit: Unit, practitioner: str) -> Application:
    """The last licence has ended: the doctor is hidden, what was verified of it is open again."""
    await begin(context, unit, practitioner)
    application = await read_application(unit, practitioner)
    now_us = context.timers.now()
    now, server = instant_of(now_us), Person("operator")
    verified_here = any(d.what == APPROVE for d in application.decisions)
    if application.task is None:
        opened(application, server, now_us, EXPIRE)
    claims = {claim.id: claim for claim in claims_of(application.practitioner)}
    for key, result in list(application.claims.items()):
        if kind_of(result) == LICENCE and result["status"] == VALID and key in claims:
            row = decision_row(server.reference(), EXPIRE, now, "")
            reopened = {**result, "status": "req-revalid", "statusDate": now}
            application.put({**reopened, "extension": [*result.get("extension", ()), row]})
    if application.task is not None and application.task["status"] == "completed":
        application.put({**application.task, "status": "requested", "lastModified": now})
    # Of who was imported, the system that they come from says whether they are active; they are hidden all the same.
    active = {"active": False} if verified_here else {}
    application.put(marked({**application.practitioner, **active}, hidden=True))
    return await written(context, unit, application, EXPIRE)
