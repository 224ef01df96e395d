"""How versions become answers: ETag, Last-Modified, Location, and what `Prefer: return` asks for.

Spec: https://hl7.org/fhir/R4/http.html#ops, https://hl7.org/fhir/R4/http.html#versioning
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fhir_server.interactions.subset import subset
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, Issue, outcome_of
from fhir_server.model.exchange import Answer, Request, Touched
from fhir_server.repository.repository import Committed
from fhir_server.storage.document import Version

Return = Literal["minimal", "representation", "OperationOutcome"]


def preferences(request: Request) -> dict[str, str]:
    """The `Prefer` header by name (RFC 7240): `{"return": "minimal", "handling": "strict"}`."""
    header = request.headers.get("prefer", "")
    pairs = (part.partition("=") for piece in header.split(",") for part in piece.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs if name.strip()}


def preferred_return(request: Request, default: Return = "representation") -> Return:
    """What a write answers with; a value that nobody knows is ignored, as RFC 7240 asks."""
    match preferences(request).get("return", "").lower():
        case "minimal":
            return "minimal"
        case "representation":
            return "representation"
        case "operationoutcome":
            return "OperationOutcome"
    return default


def about(status: int, body: bytes | None, version: Version) -> Answer:
    """An answer about one version: its number is the `ETag`, its moment `Last-Modified`."""
    return Answer(status, body, version=version.version, moment_us=version.moment_us)


def location_of(version: Version, base_url: str) -> str:
    return f"{base_url}/{named(version)}"


def written(request: Request, committed: Committed, done: str) -> Answer:
    """The answer to a create or update: 201 with the new version's address, or 200."""
    version = committed.version
    match preferred_return(request):
        case "minimal":
            body = None
        case "OperationOutcome":
            told = f"{version.type}/{version.id} {done} as version {version.version}."
            body = informational(told, committed.warnings)
        case _:
            body = version.body
    answer = about(201 if committed.created else 200, body, version)
    answer.headers["Location"] = location_of(version, request.base_url)
    answer.touched = touched_by([committed])
    return answer


def touched_by(outcomes: Iterable[Committed]) -> tuple[Touched, ...]:
    """The versions that changes have made, for the audit trail."""
    return tuple(
        Touched(
            named(outcome.version), outcome.version.body, outcome.before.body if outcome.before is not None else None
        )
        for outcome in outcomes
        if outcome.changed
    )


def named(version: Version) -> str:
    """A reference to a version, relative to the base."""
    return f"{version.type}/{version.id}/_history/{version.version}"


def informational(text: str, warnings: Iterable[Issue] = ()) -> bytes:
    """An OperationOutcome that says what was done, and what the validation let pass."""
    return codec.encode(outcome_of([Issue("informational", text, severity="information"), *warnings]))


def resource_in(request: Request, resource_type: str) -> dict[str, Any]:
    """The resource of a request's body, of the type that the address names.

    Raises:
        InvalidError: 400; not JSON, not a resource, or of another type.
    """
    document = codec.decode(request.body)
    return typed(document, resource_type)


def typed(document: Any, resource_type: str) -> dict[str, Any]:
    if type(document) is not dict:
        raise InvalidError(
            f"The body is a JSON {json_kind(document)}; a {resource_type} resource (an object) was expected.",
            code="structure",
            key="HS-BODY-OBJECT",
        )
    found = document.get("resourceType")
    if found != resource_type:
        what = f"`resourceType` is {found!r}" if "resourceType" in document else "`resourceType` is missing"
        raise InvalidError(
            f"{what}; the address asks for {resource_type!r}.",
            expression=f"{resource_type}.resourceType",
            key="HS-BODY-TYPE",
        )
    return document


def json_kind(value: Any) -> str:
    match value:
        case list():
            return "array"
        case str():
            return "string"
        case bool():
            return "boolean"
        case None:
            return "null"
        case _:
            return "number"


def selected(request: Request, body: bytes) -> bytes:
    """A resource as `_summary` and `_elements` of the request want it."""
    summary: str | None = None
    elements: tuple[str, ...] = ()
    for name, value in request.parameters:
        if name == "_summary":
            if value not in ("true", "text", "data", "count", "false"):
                raise InvalidError(
                    f"`_summary` is {value!r}; expected true, text, data, count or false.",
                    code="value",
                    key="HS-SEARCH-SUMMARY",
                )
            summary = value if value not in ("false", "count") else None
        elif name == "_elements":
            elements += tuple(part for part in value.split(",") if part)
    if summary is None and not elements:
        return body
    return codec.encode(subset(codec.decode(body), summary=summary, elements=elements))
