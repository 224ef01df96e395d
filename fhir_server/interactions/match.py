"""`Patient/$match`: who of the patients here is the person described, each with a score and a grade.

The model of the score stands in `matching.score`, and in docs/operations-more.md.

Spec: https://hl7.org/fhir/R4/patient-operation-match.html
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_server.interactions.answers import typed
from fhir_server.interactions.bundle import joined
from fhir_server.interactions.context import Context
from fhir_server.interactions.matching.candidates import MOST, candidates_of
from fhir_server.interactions.matching.facts import Facts, facts_of
from fhir_server.interactions.matching.score import IDENTIFIER, Verdict, compared
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import Issue, UnprocessableError, outcome_of
from fhir_server.model.exchange import Answer, Request

Json = dict[str, Any]
GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
DEFAULT_COUNT = 20
MOST_MATCHES = 100


async def match(context: Context, request: Request) -> Answer:
    """Patient/$match: a searchset of the records that may be the person's, the most probable first.

    Raises:
        UnprocessableError: 422; the description is too thin to find anybody by.
    """
    inputs = Inputs.of(request)
    described = typed(inputs.required("resource", inputs.resource("resource")), "Patient")
    only_certain = inputs.flag("onlyCertainMatches")
    count = min(inputs.whole("count", least=1) or DEFAULT_COUNT, MOST_MATCHES)
    facts = facts_of(described)
    require_enough(facts)
    candidates, cut = await candidates_of(context, described, facts)
    matches: list[tuple[Verdict, str, bytes]] = []
    for patient_id, body in candidates.items():
        patient = codec.decode(body)
        if is_replaced(patient):
            continue  # merged into another record, which is found by itself
        verdict = compared(facts, facts_of(patient))
        if verdict.grade != "certainly-not" or IDENTIFIER in verdict.agreeing:
            matches.append((verdict, patient_id, body))
    matches.sort(key=lambda row: (-row[0].score, -row[0].bits, row[1]))
    issues = [thin_issue()] if cut else []
    if only_certain:
        certain = [row for row in matches if row[0].grade == "certain"]
        if len(certain) > 1:
            issues.append(several_issue(len(certain)))
        matches = certain if len(certain) == 1 else []
    base = f"{request.base_url}/Patient/"
    entries = [entry_of(base + patient_id, body, verdict) for verdict, patient_id, body in matches[:count]]
    if issues:
        entries.append(b'{"resource":%b,"search":{"mode":"outcome"}}' % codec.encode(outcome_of(issues)))
    head: Json = {"resourceType": "Bundle", "id": new_id(), "type": "searchset", "total": len(matches)}
    return Answer(200, joined(head, entries))


def require_enough(facts: Facts) -> None:
    """An identifier, or two of: a name, a birth date, a telephone number or mail address, an address."""
    if facts.identifiers or facts.retired:
        return
    known = (facts.has_name, bool(facts.birth), bool(facts.phones or facts.emails), bool(facts.places))
    if sum(known) < 2:
        raise UnprocessableError(
            "The description is too thin to match anybody by: give an identifier, or at least two of name, birthDate, "
            "telecom and address.",
            code="incomplete",
            expression="Parameters.parameter.where(name='resource').resource",
            key="HS-MATCH-INPUT",
        )


def is_replaced(patient: Json) -> bool:
    return any(type(link) is dict and link.get("type") == "replaced-by" for link in patient.get("link", []))


def entry_of(url: str, body: bytes, verdict: Verdict) -> bytes:
    search = {
        "extension": [{"url": GRADE, "valueCode": verdict.grade}],
        "mode": "match",
        "score": Decimal(f"{verdict.score:.4f}"),
    }
    return b'{"fullUrl":%b,"resource":%b,"search":%b}' % (codec.encode(url), body, codec.encode(search))


def thin_issue() -> Issue:
    return Issue(
        "incomplete",
        f"Some of what is described fits more than {MOST} records; those beyond were not looked at. An identifier, or "
        "further facts, make the answer complete.",
        key="HS-MATCH-CUT",
        severity="warning",
    )


def several_issue(number: int) -> Issue:
    return Issue(
        "multiple-matches",
        f"{number} records match with certainty; with onlyCertainMatches none is given, since it is open which is "
        "meant. They may be duplicates: see $merge.",
        key="HS-MATCH-SEVERAL",
        severity="warning",
    )
