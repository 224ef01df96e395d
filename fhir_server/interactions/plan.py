"""What a transaction is made of: one step per entry, and the faults found in them.

Spec: https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from fhir_server.interactions.bundle import Envelope
from fhir_server.interactions.conditional import lock_keys
from fhir_server.interactions.context import Context
from fhir_server.interactions.entries import at_entry, request_of_entry, response_entry
from fhir_server.interactions.permission import require_change
from fhir_server.interactions.update import ID, malformed_id
from fhir_server.model.errors import FhirError, InvalidError, Issue, MethodNotAllowedError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.document import Version

#: How many entries are read before others get their turn.
BREATH = 500

#: Faults told at most; a Bundle of thousands may have the same one everywhere.
MOST_ISSUES = 100

Kind = Literal["DELETE", "POST", "PUT", "PATCH", "GET"]

_BY_IDENTITY: dict[str, Kind] = {"PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE"}


@dataclass(slots=True)
class Step:
    """One entry: what it wants, which resource it will be, and what came of it.

    `standing` is the match of a conditional create, `twin` an earlier entry that creates under the same criteria,
    `written` the version that the entry made, and `answer` what it would have answered by itself.
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
    answer: Answer | None = None

    def response(self) -> bytes:
        """The entry of the response."""
        return b"{}" if self.answer is None else response_entry(self.request, self.answer)


@dataclass(slots=True)
class Plan:
    """The steps of a transaction in the order of the request."""

    steps: list[Step] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Step]:
        return [step for step in self.steps if step.kind == kind]

    def lock_keys(self) -> list[str]:
        conditional = (s for s in self.steps if s.criteria is not None and s.kind != "DELETE")
        return sorted({key for s in conditional for key in lock_keys(s.type, s.criteria or "")})


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
        if index % BREATH == BREATH - 1:
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
        case (("PUT" | "PATCH" | "DELETE"), 2, False):
            step = Step(index, _BY_IDENTITY[method], request, path[0], full_url, id=path[1])
            if not ID.fullmatch(path[1]):
                raise malformed_id(path[0], path[1])
        case (("PUT" | "PATCH" | "DELETE"), 1, True):
            step = Step(index, _BY_IDENTITY[method], request, path[0], full_url)
            step.criteria = request.query
    if step is not None and context.unguarded is not None:
        require_change(context, step.type, method, conditional=step.criteria is not None)
    if step is None:
        address = "/".join(path) + (f"?{request.query}" if request.query else "")
        raise MethodNotAllowedError(
            f"{method} {address} is not possible in a transaction.",
            key="HS-TXN-METHOD",
        )
    if step.kind in ("POST", "PUT", "PATCH") and not request.body:
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
