"""`$check` and `$sign`: a draft is looked at, and comes into force by its prescriber's signature.

Spec: our own operations; IHE MPD PHARM-6 is what a client does to submit a prescription
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import FhirError, InvalidError, Issue, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.dispensing.begin import begin
from resources.dispensing.codes import SIGNED, marked, ref, reference_in
from resources.dispensing.desk import named, told, transacted
from resources.dispensing.later import watch
from resources.dispensing.tokens import digest_of, new_token
from resources.dispensing.who import require_prescriber
from resources.prescription import words
from resources.prescription.findings import Report
from resources.prescription.gathering import checked
from resources.prescription.keys import signing_key
from resources.prescription.paper import Sheet, issued
from resources.prescription.signature import Proof
from resources.prescription.signature import signed as signed_by
from resources.prescription.wanted import ORDER, Draft, drafts_of, require_signable

Json = dict[str, Any]

#: What the signature numbers prescriptions by: an identifier that is nobody else's.
NUMBERS = "urn:ietf:rfc:3986"


async def check(context: Context, request: Request) -> Answer:
    """What speaks against a prescription, or those of a group, and what was not looked at; nothing is stored."""
    inputs = Inputs.of(request)
    inputs.only("group")
    drafts = await drafts_of(context, request, inputs)
    report = await checked(context, [draft.order for draft in drafts])
    return answered(parameters_of(*rows_of(report, str(reference_in(drafts[0].order.get("subject"))))))


def rows_of(report: Report, patient: str) -> list[Json]:
    return [
        {"name": "interrupts", "valueBoolean": bool(report.interrupting)},
        *({"name": "issue", "resource": finding.issue(patient)} for finding in report.findings),
        *({"name": "not-checked", "valueString": text} for text in report.unchecked),
    ]


async def sign(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$sign, or MedicationRequest/$sign for all drafts of a group.

    Raises:
        ForbiddenError: 403; the caller is not the prescriber.
        UnprocessableError: 422; it is no draft, lacks something, is a controlled substance, or something severe speaks
            against it that is not overridden with a reason.
        PreconditionFailedError: 412; somebody changed it meanwhile.
    """
    inputs = Inputs.of(request)
    inputs.only("group", "override")
    overrides = overrides_in(inputs)
    drafts = await drafts_of(context.seen, request, inputs)
    for draft in drafts:
        await require_prescriber(context.repository.store, context.caller, draft.order)
        await require_signable(context, draft)
    report = await checked(context.seen, [draft.order for draft in drafts])
    require_answered(report, overrides)
    signing = await prepared(context, drafts, report, overrides)

    async def work(unit: Unit) -> list[Version]:
        return await signing.kept(context, unit)

    made = await transacted(context, work)
    return told(parameters_of(*signing.shown(made)), made)


def overrides_in(inputs: Inputs) -> dict[str, str]:
    """The reasons for which findings are overridden, by the ids of the findings.

    Raises:
        InvalidError: 400; one lacks the finding or the reason.
    """
    found: dict[str, str] = {}
    for row in inputs.all("override"):
        parts = dict(row) if isinstance(row, list) else {}
        issue, reason = parts.get("issue"), parts.get("reason")
        if not isinstance(issue, str) or not isinstance(reason, str) or not reason.strip():
            raise InvalidError(
                "An 'override' has the parts 'issue' (the identifier of the DetectedIssue) and 'reason' (words).",
                code="value",
                expression="Parameters.parameter.where(name='override')",
                key="HS-OP-PARAMETER",
            )
        found[issue] = reason.strip()
    return found


def require_answered(report: Report, overrides: Mapping[str, str]) -> None:
    """All that is severe is overridden with a reason, and nothing that was not found.

    Raises:
        UnprocessableError: 422; each finding is an issue of the outcome.
    """
    open_ones = [finding for finding in report.interrupting if finding.id not in overrides]
    if open_ones:
        raise UnprocessableError(
            Issue(
                "business-rule",
                f"{finding.detail} To sign all the same, give an 'override' with issue {finding.id!r} and the reason.",
                finding.line or "MedicationRequest",
                "HS-RX-ISSUE",
            )
            for finding in open_ones
        )
    if unknown := overrides.keys() - {finding.id for finding in report.findings}:
        raise UnprocessableError(
            f"There is no finding {', '.join(sorted(unknown))}; it may have changed: ask $check again.",
            key="HS-RX-OVERRIDE",
            expression="Parameters.parameter.where(name='override')",
        )


@dataclass(frozen=True, slots=True)
class Signing:
    """All that a signature makes, before it is kept.

    Attributes:
        drafts: with the versions that were read
        orders: their content as it is signed
        signatures: one for each
        token: the pull token, of all of them
        document, binary: the ids of the signed PDF
    """

    drafts: Sequence[Draft]
    orders: Sequence[Json]
    signatures: Sequence[str]
    issues: Sequence[Json]
    signer: str
    moment_us: int
    token: str
    pdf: bytes
    document: str
    binary: str

    async def kept(self, context: Context, unit: Unit) -> list[Version]:
        """Write it all, in one transaction."""
        repository = named(context).within(unit).repository
        await unit.lock([f"prescription:{draft.id}" for draft in self.drafts])

        async def write(changes: Sequence[Change]) -> list[Version]:
            outcomes = await repository.commit_within(unit, [repository.check(change) for change in changes])
            return [outcome.version for outcome in outcomes]

        signed = await write(
            [
                Change("PUT", ORDER, draft.id, order, if_match=draft.version.version, by="sign")
                for draft, order in zip(self.drafts, self.orders, strict=True)
            ]
        )
        digest = hashlib.sha256(self.pdf).hexdigest()
        beside = [Change("POST", "Binary", self.binary, self._binary(), fresh=True, by="sign")]
        beside.append(Change("POST", "DocumentReference", self.document, self._document(), fresh=True, by="sign"))
        for version, detached in zip(signed, self.signatures, strict=True):
            proof = Proof(detached, self.signer, self.moment_us)
            target = f"{ORDER}/{version.id}/_history/{version.version}"
            provenance = proof.provenance(target, f"DocumentReference/{self.document}", digest)
            beside.append(Change("POST", "Provenance", new_id(), provenance, fresh=True, by="sign"))
        beside += [Change("POST", "DetectedIssue", new_id(), issue, fresh=True, by="sign") for issue in self.issues]
        others = await write(beside)
        proofs = [version.id for version in others if version.type == "Provenance"]
        tasks = [
            await begin(unit, repository, order, version, digest_of(self.token), proof)
            for order, version, proof in zip(self.orders, signed, proofs, strict=True)
        ]
        for version in signed:
            await watch(context, unit, version.id, self.moment_us)
        return [*signed, *tasks, *others]

    def shown(self, made: Sequence[Version]) -> list[Json]:
        """The parameters of the answer."""
        names = {ORDER: "prescription", "Task": "task", "Provenance": "provenance", "DetectedIssue": "issue"}
        rows: list[Json] = [
            {"name": names[version.type], "resource": codec.decode(version.body or b"")}
            for version in made
            if version.type in names
        ]
        document: Json = {"name": "document", "valueReference": ref(f"DocumentReference/{self.document}")}
        return [*rows, document, {"name": "token", "valueString": self.token}]

    def _binary(self) -> Json:
        return {
            "resourceType": "Binary",
            "contentType": "application/pdf",
            "securityContext": self.orders[0]["subject"],
            "data": base64.b64encode(self.pdf).decode(),
        }

    def _document(self) -> Json:
        moment = instant_of(self.moment_us)
        return {
            "resourceType": "DocumentReference",
            "status": "current",
            "docStatus": "final",
            "type": {
                "coding": [{"system": "http://loinc.org", "code": "57833-6", "display": "Prescription for medication"}]
            },
            "subject": self.orders[0]["subject"],
            "date": moment,
            "author": [ref(self.signer)],
            "content": [
                {
                    "attachment": {
                        "contentType": "application/pdf",
                        "url": f"Binary/{self.binary}",
                        "size": len(self.pdf),
                        "hash": base64.b64encode(hashlib.sha1(self.pdf, usedforsecurity=False).digest()).decode(),
                        "title": "Prescription",
                        "creation": moment,
                    }
                }
            ],
            "context": {"related": [ref(draft.reference) for draft in self.drafts]},
        }


async def prepared(context: Context, drafts: Sequence[Draft], report: Report, overrides: Mapping[str, str]) -> Signing:
    """Sign, and draw the paper."""
    moment, token, key = now_us(), new_token(), await signing_key(context)
    orders = [in_force(draft.order, moment) for draft in drafts]
    subject, requester = str(reference_in(orders[0]["subject"])), str(reference_in(orders[0]["requester"]))
    signer = context.caller.identity.fhir_user or requester
    patient, prescriber = await _read(context, subject), await words.person_of(_reader(context), requester)
    sheet = Sheet(
        patient=words.patient_lines(patient),
        prescriber=words.prescriber_lines(prescriber),
        medicines=[await words.medicine_lines(context, order) for order in orders],
        codes=[f"{draft.reference}/$accept?token={token}" for draft in drafts],
        issued=instant_of(moment),
        number=orders[0].get("groupIdentifier", {}).get("value") or orders[0]["identifier"][-1]["value"],
    )
    author = context.caller.identity.fhir_user
    issues = [
        finding.issue(subject, (overrides[finding.id], author) if finding.id in overrides else None)
        for finding in report.findings
    ]
    return Signing(
        drafts,
        orders,
        [signed_by(order, key) for order in orders],
        issues,
        signer,
        moment,
        token,
        await issued(context, sheet, words.name_of(prescriber)),
        new_id(),
        new_id(),
    )


def in_force(draft: Json, moment_us: int) -> Json:
    """A draft as it is signed: active, numbered, dated, and marked by the server."""
    order = {**draft, "status": "active"}
    order.pop("statusReason", None)
    number = {"system": NUMBERS, "value": f"urn:uuid:{uuid.uuid4()}"}
    order["identifier"] = [*draft.get("identifier", ()), number]
    order.setdefault("authoredOn", instant_of(moment_us))
    return marked(order, SIGNED)


def _reader(context: Context) -> Any:
    async def read(reference: str) -> Json:
        return await _read(context, reference)

    return read


async def _read(context: Context, reference: str) -> Json:
    """What a reference leads to; nothing where it leads nowhere."""
    kind, _, resource_id = reference.partition("/")
    try:
        version = await context.repository.read(kind, resource_id)
    except FhirError:
        return {}
    found: Json = codec.decode(version.body or b"")
    return found
