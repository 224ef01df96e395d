"""The one process by which doctors are verified: applications, their claims, and how they are opened.

All of it happens in one transaction: the claims, the Task, and whether the Practitioner is active. The operations,
the pages of accounts and the timers of licences come here.

Spec: https://hl7.org/fhir/R4/verificationresult.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.access import Caller
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import ConflictError, NotFoundError
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.verification.licence import is_licensed
from resources.verification.words import (
    ACCOUNTS,
    ADMINISTRATOR,
    APPLY,
    CLAIMS,
    CODE,
    EVIDENCE,
    LICENCE,
    OPEN,
    PROPOSED,
    ROLES,
    TASKS,
    VALID,
    Claim,
    Decided,
    State,
    claims_in,
    claims_of,
    concept,
    decision_row,
    decisions_in,
    evidence_of,
    inputs_for,
    name_of,
    proposal_in,
    state_of,
    with_qualifications,
)

Json = dict[str, Any]

TYPES: Final = ("Practitioner", "Task", "VerificationResult")


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides or hands in.

    Attributes:
        subject: the id of the account
        user: the resource of the person
    """

    subject: str
    user: str | None = None
    name: str = ""

    @classmethod
    def of(cls, caller: Caller) -> Person:
        return cls(caller.identity.subject or "operator", caller.identity.fhir_user)

    async def practitioner(self, read: Callable[[str, str], Awaitable[Version | None]]) -> str:
        """The Practitioner that they are, also where they have signed in as one of their roles; else who they are.

        Args:
            read: gives a PractitionerRole: as the caller sees it, where what they do not see is not there for them; or
                as a transaction does, where nothing is hidden
        """
        user = self.user or ""
        kind, _, key = user.partition("/")
        if kind != "PractitionerRole":
            return user
        role = await read(kind, key)
        body = codec.decode(role.body) if role is not None and role.body is not None else {}
        return str(body.get("practitioner", {}).get("reference", ""))

    def reference(self) -> Json:
        who: Json = {"identifier": {"system": ACCOUNTS, "value": self.subject}}
        return {
            **({"reference": self.user} if self.user else {}),
            **who,
            **({"display": self.name} if self.name else {}),
        }


@dataclass(slots=True)
class Application:
    """What is stored of an application, and what of it is to be written.

    Attributes:
        versions: what is current, by reference
        claims: the VerificationResults of the application, by id
    """

    practitioner: Json
    task: Json | None
    claims: dict[str, Json]
    versions: dict[str, Version] = field(default_factory=dict)
    changed: dict[str, Json] = field(default_factory=dict)
    made: list[Committed] = field(default_factory=list)

    @property
    def reference(self) -> str:
        return f"Practitioner/{self.practitioner['id']}"

    @property
    def state(self) -> State:
        return state_of(self.practitioner, self.task)

    @property
    def version(self) -> int:
        """Goes up with each decision."""
        task = next((c.version for c in self.made if c.version.type == "Task"), None)
        task = task or self.versions.get(f"Task/{name_of(self.reference)}")
        return task.version if task else 0

    @property
    def decisions(self) -> list[Decided]:
        """All that was decided, once where it was the same for several claims, in order."""
        rows = {(d.at, d.who, d.what, d.note): d for one in self.claims.values() for d in decisions_in(one)}
        return [rows[key] for key in sorted(rows)]

    def put(self, resource: Json) -> None:
        reference = f"{resource['resourceType']}/{resource['id']}"
        if resource["resourceType"] == "VerificationResult":
            self.claims[resource["id"]] = resource
        elif resource["resourceType"] == "Task":
            self.task = resource
        else:
            self.practitioner = resource
        self.changed[reference] = resource


async def read_application(unit: Unit, practitioner: str) -> Application:
    """An application as a transaction sees it.

    Raises:
        NotFoundError: 404; there is no such Practitioner.
    """
    inner = unit.unguarded
    person = await inner.get("Practitioner", practitioner.partition("/")[2])
    if person is None or person.body is None:
        raise NotFoundError(f"There is no {practitioner}.", key="HS-VERIFY-NONE")
    name = name_of(practitioner)
    found = {practitioner: person}
    version = await inner.get("Task", name)
    task = None if version is None or version.body is None else codec.decode(version.body)
    if version is not None:
        found[f"Task/{name}"] = version
    ids = {*(claims_in(task) if task else ()), *(claim.id for claim in claims_of(codec.decode(person.body)))}
    rows = await inner.get_many("VerificationResult", sorted(ids))
    found |= {f"VerificationResult/{key}": row for key, row in rows.items()}
    claims = {key: codec.decode(row.body) for key, row in rows.items() if row.body is not None}
    return Application(codec.decode(person.body), task, claims, found)


async def written(context: Context, unit: Unit, application: Application, by: str) -> Application:
    """Write what has changed; the versions that this makes are remembered."""
    changes = []
    for reference, resource in application.changed.items():
        kind, _, key = reference.partition("/")
        known = application.versions.get(reference)
        match = known.version if known else None
        changes.append(context.repository.check(Change("PUT", kind, key, resource, if_match=match, by=by)))
    application.made = await context.within(unit).repository.commit_within(unit, changes)
    application.changed = {}
    return application


async def begin(context: Context, unit: Unit, practitioner: str) -> None:
    """One after the other, for each Practitioner."""
    await unit.lock([f"verification:{practitioner}"])


# --- applying ---------------------------------------------------------------------------------------------------------


async def apply_within(
    context: Context, unit: Unit, practitioner: str, who: Person, proposed: Sequence[Json] = ()
) -> Application:
    """Open an application, or hand something in to one.

    Raises:
        ConflictError: 409; all that is claimed is verified.
    """
    await begin(context, unit, practitioner)
    application = await read_application(unit, practitioner)
    if not opened(application, who, context.timers.now(), APPLY, proposed):
        raise ConflictError(
            f"{practitioner} claims nothing that is not verified or under way: hand in a qualification.",
            key="HS-VERIFY-NOTHING",
        )
    return await written(context, unit, application, APPLY)


def opened(application: Application, who: Person, now_us: int, by: str, proposed: Sequence[Json] = ()) -> bool:
    """Put the claims that are new or have changed, and the Task, into an application; whether there are any."""
    waiting = [row for one in application.claims.values() if one["status"] in OPEN and (row := proposal_in(one))]
    handed = with_qualifications({"qualification": waiting}, proposed)["qualification"]
    claims = without_ended(claims_of(application.practitioner, handed), now_us)
    now, found = instant_of(now_us), False
    for claim in claims:
        known = application.claims.get(claim.id)
        if known is not None and evidence_of(known) == claim.evidence and known["status"] in (*OPEN, VALID):
            continue
        found = True
        application.put(_claim_of(claim, application.reference, known, who, now, by))
    if found or application.task is None:
        application.put(_task_of(application, claims, who, now))
        return True
    return False


def without_ended(claims: list[Claim], now_us: int) -> list[Claim]:
    """The claims without licences that are over, where another one holds: nobody can verify them any more."""
    over = [one for one in claims if one.kind == LICENCE and not is_licensed(as_person(one), now_us)]
    licences = [one for one in claims if one.kind == LICENCE]
    return [one for one in claims if one not in over] if len(over) < len(licences) else claims


def as_person(claim: Claim) -> Json:
    """Somebody with nothing but the qualification of a claim."""
    return {"qualification": [claim.qualification]}


def _claim_of(claim: Claim, practitioner: str, known: Json | None, who: Person, now: str, by: str) -> Json:
    """A claim as it is handed in, new or again."""
    result: Json = {
        "resourceType": "VerificationResult",
        "id": claim.id,
        "extension": [{"url": EVIDENCE, "valueString": claim.evidence}],
        "target": [{"reference": practitioner}],
        "targetLocation": [claim.place],
        "need": concept(
            "http://terminology.hl7.org/CodeSystem/need", "periodic" if claim.kind == LICENCE else "initial"
        ),
        "status": "attested",
        "statusDate": now,
        "validationType": concept("http://terminology.hl7.org/CodeSystem/validation-type", "primary"),
        "validationProcess": [concept(CLAIMS, claim.kind)],
        "failureAction": concept("http://terminology.hl7.org/CodeSystem/failure-action", "fatal"),
        "attestation": {"who": {"reference": practitioner}, "date": now[:10]},
    }
    if claim.proposed and claim.qualification is not None:
        inside = {"resourceType": "Practitioner", "id": PROPOSED, "qualification": [claim.qualification]}
        result["contained"] = [inside]
        result["extension"].append({"url": f"{EVIDENCE}-proposed", "valueReference": {"reference": f"#{PROPOSED}"}})
    until = (claim.qualification or {}).get("period", {}).get("end", "")[:10]
    if claim.kind == LICENCE and until:
        result["nextScheduled"] = until
    if known is not None:
        status = known["status"]
        result["status"] = status if status in OPEN else "req-revalid"
        kept = [row for row in known.get("extension", ()) if not str(row.get("url")).startswith(EVIDENCE)]
        result["extension"] += [*kept, decision_row(who.reference(), by, now, "")]
    return result


def _task_of(application: Application, claims: Sequence[Claim], who: Person, now: str) -> Json:
    """The Task of an application that waits for decisions."""
    practitioner = {"reference": application.reference}
    begun: Json = application.task or {
        "resourceType": "Task",
        "id": name_of(application.reference),
        "intent": "order",
        "code": concept(TASKS, CODE),
        "focus": practitioner,
        "for": practitioner,
        "requester": practitioner,
        "performerType": [concept(ROLES, ADMINISTRATOR)],
        "authoredOn": now,
    }
    kept = {name: value for name, value in begun.items() if name != "statusReason"}
    return {**kept, "status": "requested", "lastModified": now, "input": list(inputs_for(claims))}
