"""What a FHIR request was, for the audit trail: the one place that knows both the requests and the trail.

`audited` is called once per request, when its answer is there and nothing of it has been sent. It costs a few
microseconds: the request and its answer are kept as they are, and read when the trail is written.

Spec: https://hl7.org/fhir/R4/security.html#audit
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fhir_server.audit.event import DONE, FAILED, REFUSED, Event, Part, who_of
from fhir_server.audit.shown import patients_in
from fhir_server.audit.trail import Trail
from fhir_server.http.negotiate import FORM
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.table import interaction_of, operation_at
from fhir_server.model.access import Caller
from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError
from fhir_server.model.exchange import Answer, Request, decoded

#: What is kept of a query; a search by POST may have megabytes.
MOST_QUERY = 32 * 1024

#: These write, and so do operations that say so, batches and transactions.
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

#: Changes that come one at a time, or all at once. What is made of a SearchParameter, and the data of a Binary, follow
#: the write and read it.
LONE = frozenset({"create", "update", "patch", "delete", "transaction"})
APART = frozenset({"SearchParameter", "Binary"})

_KEY = re.compile(rb'"code":"(HS-[A-Z0-9\-]+)"')
_LOCAL = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")


class Exchanged(msgspec.Struct):
    """A request with its answer, to become an event when there is time."""

    request: Request
    answer: Answer
    caller: Caller
    operations: Sequence[Operation]
    address: str
    request_id: str
    moment_us: int

    @property
    def bytes_held(self) -> int:
        answer = self.answer
        return 1000 + len(answer.body or b"") + len(self.request.body) + 2000 * len(answer.entries)

    @property
    def parts(self) -> int:
        return 1 + len(self.answer.entries)

    def event(self) -> Event:
        operations = self.operations
        entries = tuple(part_of(inner, given, operations) for inner, given in self.answer.entries)
        return Event(
            self.moment_us,
            part_of(self.request, self.answer, operations),
            who_of(self.caller),
            self.address,
            self.request_id,
            entries,
        )


async def audited(
    trail: Trail,
    request: Request,
    answer: Answer,
    caller: Caller,
    operations: Sequence[Operation],
    *,
    address: str,
    request_id: str,
) -> None:
    """Put a request on the trail; of a change, return when that is durable.

    Args:
        answer: what will be sent: a refusal and an error, too
        caller: who asked; `model.access.NOBODY` where they are not known
        operations: those that can be called here
        address: where the request came from, without a port

    Raises:
        UnavailableError: 503; a change was carried out, and its record is not confirmed yet.
    """
    if not is_audited(request, answer, operations) or (answer.status == 503 and trail.full):
        return  # nothing was shown, and one more would fill the memory that `admit` keeps from filling
    exchanged = Exchanged(request, answer, caller, operations, address, request_id, now_us())
    if request.method in CHANGES and answer.status < 400 and changes(request, answer, operations):
        await trail.record(exchanged)
    else:
        trail.note(exchanged)


def is_recorded_alone(method: str, path: tuple[str, ...]) -> bool:
    """Whether a request is one change, of which nobody hears before its record is durable: see `Store.unawaited`."""
    return method in CHANGES and APART.isdisjoint(path[:1]) and interaction_of(method, path, ()) in LONE


def is_audited(request: Request, answer: Answer, operations: Sequence[Operation]) -> bool:
    """All but what shows nothing of anybody: the CapabilityStatement, and addresses that do not exist.

    A client that sends too much is told so and shown nothing; recording each time would let it fill the trail.
    """
    if request.path == ("metadata",) or answer.status == 429:
        return False
    return (
        answer.status in (401, 403)
        or answer.status not in (404, 405)
        or bool(interaction_of(request.method, request.path, operations))
    )


def changes(request: Request, answer: Answer, operations: Sequence[Operation]) -> bool:
    """Whether a request that succeeded has changed anything."""
    if request.method != "POST":
        return True
    if answer.entries:
        return any(
            inner.method in CHANGES and given.status < 400 and changes(inner, given, operations)
            for inner, given in answer.entries
        )
    last = request.path[-1] if request.path else ""
    if last == "_search":
        return False
    if last.startswith("$"):
        operation = operation_at(request.path, operations)
        return operation is not None and operation.affects_state
    return True


def part_of(request: Request, answer: Answer, operations: Sequence[Operation]) -> Part:
    """What one request, or one entry of a Bundle, was."""
    path, status = request.path, answer.status
    kind = interaction_of(request.method, path, operations)
    base = request.base_url
    query = request.query
    if kind == "transaction" and b'"type":"batch-response"' in (answer.body or b"")[:200]:
        kind = "batch"
    elif kind == "create" and status == 200:
        kind = "read"  # a conditional create that found its match has shown it, and made nothing
    elif request.method == "POST" and request.content_type == FORM:
        query = "&".join(part for part in (query, request.body[:MOST_QUERY].decode("utf-8", "replace")) if part)
    elif path[-1:] == ("$graphql",) and request.body:
        query = request.body[:MOST_QUERY].decode("utf-8", "replace")
    done = status < 400
    patients: dict[str, None] = {}
    if len(path) > 1 and path[0] == "Patient" and path[1][:1] not in ("_", "$"):
        patients[path[1]] = None
    if done and kind not in ("transaction", "batch"):
        if kind.startswith("search"):
            patients |= dict.fromkeys(patients_asked(path, query))
        if answer.touched:
            for made in answer.touched:
                whose = own_patient(made.reference)
                found = (whose,) if whose else patients_in(made.body, base) + patients_in(made.before, base)
                patients |= dict.fromkeys(found)
        elif not (kind in ("read", "vread") and path[0] == "Patient"):
            patients |= dict.fromkeys(patients_in(answer.body, base))
            if answer.content is not None and (whose := own_patient(security_context(answer, base))):
                patients[whose] = None
    key = _KEY.search(answer.body or b"") if not done else None
    return Part(
        kind,
        status,
        request.method,
        "/".join(path),
        query[:MOST_QUERY],
        targets_of(kind, request, answer),
        tuple(patients),
        key[1].decode() if key else "",
        DONE if done else FAILED if status >= 500 else REFUSED,
    )


def own_patient(reference: str) -> str | None:
    """The id of a Patient that is itself what was made: other Patients that it names are none of those concerned."""
    found = _LOCAL.fullmatch(reference)
    return found[1] if found else None


def security_context(answer: Answer, base_url: str) -> str:
    """Whose a Binary is, by the security context in the headers."""
    return answer.headers.get("X-Security-Context", "").removeprefix(f"{base_url}/")


def targets_of(kind: str, request: Request, answer: Answer) -> tuple[str, ...]:
    """The resources that a request read or wrote, with their versions."""
    if answer.touched:
        return tuple(made.reference for made in answer.touched)
    path = request.path
    if location := answer.headers.get("Location"):
        return (location.removeprefix(f"{request.base_url}/"),)
    if kind in ("read", "vread", "update", "patch", "delete") and len(path) > 1:
        instance = "/".join(path[:2])
        if kind == "vread":
            return ("/".join(path),)
        return (f"{instance}/_history/{answer.version}",) if answer.version else (instance,)
    if kind in ("history-instance", "operation") and len(path) > 2:
        return ("/".join(path[:2]),)
    return ()


def patients_asked(path: tuple[str, ...], query: str) -> list[str]:
    """The Patients that a search names: what it tells, be it nothing, is about them."""
    try:
        pairs = decoded(query)
    except FhirError:
        return []
    found: list[str] = []
    for name, values in pairs:
        code = name.partition(":")[0]
        bare = code == "patient" or (code == "_id" and path[:1] == ("Patient",)) or name.endswith(":Patient")
        for value in values.split(","):
            match = _LOCAL.fullmatch(value if "/" in value or not bare else f"Patient/{value}")
            if match and (bare or "/" in value):
                found.append(match[1])
    return found
