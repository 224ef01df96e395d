"""The kinds of failure a FHIR interaction knows; each carries its HTTP status and the issues of its outcome.

`http.errors` renders them, once. Every issue names its kind (`code`), what was found and expected (`diagnostics`), the
place (`expression`, a FHIRPath), and a stable key (`HS-…`) by which documentation and support find the message.

Spec: https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/valueset-issue-type.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One row of an OperationOutcome.

    `rule` names what was broken where a definition says it: the canonical of that definition, with `|version` or
    without, and the key of its invariant or the id of its element
    (`("http://hl7.org/fhir/StructureDefinition/Observation", "obs-6")`).
    """

    code: str
    diagnostics: str
    expression: str | None = None
    key: str | None = None
    severity: Severity = "error"
    rule: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"severity": self.severity, "code": self.code}
        if self.key:
            row["details"] = {"coding": [{"system": "urn:healthsphere:message", "code": self.key}]}
            if self.rule:
                url, _, version = self.rule[0].partition("|")
                rule = {"system": url, "version": version, "code": self.rule[1]}
                row["details"]["coding"].append({name: value for name, value in rule.items() if value})
        row["diagnostics"] = self.diagnostics
        if self.expression:
            row["expression"] = [self.expression]
        return row


def outcome_of(issues: Iterable[Issue]) -> dict[str, Any]:
    """The OperationOutcome resource of some issues."""
    return {"resourceType": "OperationOutcome", "issue": [issue.as_json() for issue in issues]}


class FhirError(Exception):
    """A failed interaction: the status of the answer and at least one issue."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "exception"
    #: The resource whose write has failed, where who refuses it names one.
    about: str = ""

    def __init__(
        self,
        diagnostics: str | Iterable[Issue],
        *,
        expression: str | None = None,
        key: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if isinstance(diagnostics, str):
            self.issues: tuple[Issue, ...] = (Issue(code or self.code, diagnostics, expression, key),)
        else:
            self.issues = tuple(diagnostics)
        self.headers = headers or {}
        super().__init__("; ".join(i.diagnostics for i in self.issues))

    def outcome(self) -> dict[str, Any]:
        return outcome_of(self.issues)

    def retold(self, issues: Iterable[Issue]) -> FhirError:
        """The same failure, told by other issues."""
        return type(self)(issues, headers=self.headers)


class InvalidError(FhirError):
    """400: the request, or the resource in it, is not well-formed FHIR."""

    status, code = 400, "invalid"


class UnauthorizedError(FhirError):
    """401: no credentials, or not valid ones."""

    status, code = 401, "login"


class ForbiddenError(FhirError):
    """403: the caller is known, and may not do this."""

    status, code = 403, "forbidden"


class NotFoundError(FhirError):
    """404: there is no such resource, version or route."""

    status, code = 404, "not-found"


class MethodNotAllowedError(FhirError):
    """405: the route exists, not with this HTTP method."""

    status, code = 405, "not-supported"


class NotAcceptableError(FhirError):
    """406: no format that the client accepts is spoken here."""

    status, code = 406, "not-supported"


class ConflictError(FhirError):
    """409: another writer was first."""

    status, code = 409, "conflict"


class GoneError(FhirError):
    """410: the resource was deleted."""

    status, code = 410, "deleted"


class PreconditionFailedError(FhirError):
    """412: `If-Match` names another version, or conditional criteria match several resources."""

    status, code = 412, "conflict"


class TooLargeError(FhirError):
    """413: more bytes or entries than the server takes at once."""

    status, code = 413, "too-long"


class UriTooLongError(FhirError):
    """414: the address is longer than the server takes."""

    status, code = 414, "too-long"


class UnsupportedMediaTypeError(FhirError):
    """415: the body is in a format that is not spoken here."""

    status, code = 415, "not-supported"


class RangeNotSatisfiableError(FhirError):
    """416: `Range` asks for bytes that are not there."""

    status, code = 416, "value"


class MisdirectedError(FhirError):
    """421: the request names a host that this server does not answer for."""

    status, code = 421, "security"


class UnprocessableError(FhirError):
    """422: well-formed, and against a rule of this server."""

    status, code = 422, "business-rule"


class PreconditionRequiredError(FhirError):
    """428: a change that does not say which version it is of, where it must."""

    status, code = 428, "required"


class TooManyRequestsError(FhirError):
    """429: a client sends more requests than it may."""

    status, code = 429, "throttled"


class HeadersTooLargeError(FhirError):
    """431: the headers are more than the server takes."""

    status, code = 431, "too-long"


class UnavailableError(FhirError):
    """503: the database does not answer, or the server is stopping; trying again may help."""

    status, code = 503, "transient"
