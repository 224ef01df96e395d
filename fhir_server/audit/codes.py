"""The codes that an AuditEvent says things with, by the kind of event.

Spec: https://profiles.ihe.net/ITI/BALP/ (IHE Basic Audit Log Patterns, on R4),
https://hl7.org/fhir/R4/valueset-audit-event-type.html, https://hl7.org/fhir/R4/valueset-audit-event-sub-type.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
EVENT_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
BALP: Final = "https://profiles.ihe.net/ITI/BALP"

#: Codes of this server alone: roles of users, and happenings that no list knows.
ROLE: Final = "urn:healthsphere:role"
HAPPENING: Final = "urn:healthsphere:audit"


def coding(system: str, code: str, display: str = "") -> Json:
    row = {"system": system, "code": code}
    return row | {"display": display} if display else row


def concept(system: str, code: str, display: str = "") -> Json:
    return {"coding": [coding(system, code, display)]}


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of event is told.

    Attributes:
        type: `AuditEvent.type`
        subtypes: `AuditEvent.subtype`
        action: C, R, U, D or E
        profile: the BALP profile that a success conforms to (`Read`), whose form with a patient is `PatientRead`
        client, server: the roles in which the two systems took part
        user: the role of the user
    """

    type: Json
    subtypes: tuple[Json, ...]
    action: str
    profile: str = ""
    client: Json = None  # type: ignore[assignment]
    server: Json = None  # type: ignore[assignment]
    user: Json = None  # type: ignore[assignment]


REST = coding(EVENT_TYPE, "rest", "Restful Operation")
SOURCE = concept(DCM, "110153", "Source Role ID")
DESTINATION = concept(DCM, "110152", "Destination Role ID")
APPLICATION = concept(DCM, "110150", "Application")
CUSTODIAN = concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian")
AUTHOR = concept(PARTICIPATION, "AUT", "Author")
RECIPIENT = concept(PARTICIPATION, "IRCP", "information recipient")
PROVIDER = concept("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "healthcare provider")

PERSON = coding(ENTITY_TYPE, "1", "Person")
OBJECT = coding(ENTITY_TYPE, "2", "System Object")
PATIENT_ROLE = coding(OBJECT_ROLE, "1", "Patient")
DOMAIN_RESOURCE = coding(OBJECT_ROLE, "4", "Domain Resource")
QUERY_ROLE = coding(OBJECT_ROLE, "24", "Query")
REQUEST_ID = coding(f"{BALP}/CodeSystem/BasicAuditEntityType", "XrequestId", "X-Request-Id")
SERVER_TYPE = coding(SOURCE_TYPE, "4", "Application Server")


def _rest(code: str, action: str, profile: str = "", *more: Json) -> Kind:
    subtypes = (coding(INTERACTION, code, code), *more)
    match action:
        case "R" if profile:  # the data goes from the server to the client
            return Kind(REST, subtypes, action, profile, DESTINATION, SOURCE, RECIPIENT)
        case "D":
            return Kind(REST, subtypes, action, profile, APPLICATION, CUSTODIAN, AUTHOR)
        case "C" | "U":
            return Kind(REST, subtypes, action, profile, SOURCE, DESTINATION, AUTHOR)
    # BALP follows DICOM: of a query it is the parameters that go somewhere, from the client to the server
    return Kind(REST, subtypes, action, profile, SOURCE, DESTINATION, RECIPIENT)


def _door(type_code: str, type_display: str, *subtypes: Json) -> Kind:
    return Kind(
        coding(DCM, type_code, type_display), subtypes, "E", "", APPLICATION, SERVER_AT_THE_DOOR, RECIPIENT
    )  # fmt: skip


SERVER_AT_THE_DOOR = concept(
    "http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver", "authorization server"
)
LOGIN = coding(DCM, "110122", "Login")
LOGOUT = coding(DCM, "110123", "Logout")
DISCLOSE = coding(LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")
AUTHENTICATION = ("110114", "User Authentication")
ALERT = ("110113", "Security Alert")


def _own(code: str) -> Json:
    return coding(HAPPENING, code)


KINDS: Final[dict[str, Kind]] = {
    "read": _rest("read", "R", "Read"),
    "vread": _rest("vread", "R", "Read"),
    "history-instance": _rest("history-instance", "R"),
    "history-type": _rest("history-type", "R"),
    "history-system": _rest("history-system", "R"),
    "search-type": _rest("search-type", "E", "Query", coding(INTERACTION, "search", "search")),
    "search-system": _rest("search-system", "E", "Query", coding(INTERACTION, "search", "search")),
    "create": _rest("create", "C", "Create"),
    "update": _rest("update", "U", "Update"),
    "patch": _rest("patch", "U", "Update"),
    "delete": _rest("delete", "D", "Delete"),
    "batch": _rest("batch", "E"),
    "transaction": _rest("transaction", "E"),
    "operation": _rest("operation", "E"),
    "": Kind(REST, (), "E", "", SOURCE, DESTINATION, RECIPIENT),
    "sign-in": _door(*AUTHENTICATION, LOGIN),
    "sign-in-refused": _door(*AUTHENTICATION, LOGIN),
    "sign-out": _door(*AUTHENTICATION, LOGOUT),
    "token": _door(*AUTHENTICATION, coding("urn:ihe:event-type-code", "ITI-71", "Get Access Token")),
    "token-refused": _door(*AUTHENTICATION, coding("urn:ihe:event-type-code", "ITI-71", "Get Access Token")),
    "token-revoked": _door(*AUTHENTICATION, _own("token-revoked")),
    "launch": _door(*AUTHENTICATION, _own("launch")),
    "account": _door(*ALERT, coding(DCM, "110137", "User Security Attributes Changed")),
    "client": _door(*ALERT, coding(DCM, "110129", "Security Configuration")),
    "keys": _door(*ALERT, coding(DCM, "110129", "Security Configuration")),
    "consent": _door(*ALERT, coding(f"{BALP}/CodeSystem/AuthZsubType", "AuthZ-Consent")),
    "break-glass-start": _door(*ALERT, coding(DCM, "110127", "Emergency Override Started")),
    "break-glass-stop": _door(*ALERT, coding(DCM, "110138", "Emergency Override Stopped")),
    "disclosure": Kind(coding(DCM, "110106", "Export"), (DISCLOSE,), "R", "", DESTINATION, SOURCE, RECIPIENT),
    "audit-retention": Kind(
        coding(DCM, "110101", "Audit Log Used"), (_own("audit-retention"),), "D", "", APPLICATION, SOURCE, AUTHOR
    ),
}  # fmt: skip


def kind_of(name: str) -> Kind:
    """How a kind is told; one that is not listed is a happening of this server alone."""
    known = KINDS.get(name)
    return known if known is not None else _door(*ALERT, _own(name))
