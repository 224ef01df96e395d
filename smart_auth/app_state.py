"""SMART app state: small settings and keys that apps keep here, apart from the resources and sealed.

An app sees what it wrote itself. What other apps wrote it sees only under the code systems that an administrator has
given to all of them (`Client.state_systems`): a code alone proves nothing, since any app may use any code.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-state.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import ReturnDocument

from fhir_server.model import codec
from fhir_server.model.access import ANY_TYPE, Identity, Scope, Verb
from fhir_server.model.clock import new_id
from fhir_server.model.errors import ForbiddenError, InvalidError, PreconditionFailedError, UnprocessableError
from smart_auth.model import Client
from smart_auth.rows import now
from smart_auth.store import AuthStore, Row, index_on
from smart_auth.vault import Vault

STATES: Final = "app_state"

#: The whole resource as it was sent (the standard's own limit).
LARGEST_BYTES: Final = 256 * 1024

#: Of one app about one subject.
MOST: Final = 20

#: What state can be about, beside nothing at all.
SUBJECTS: Final = ("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person")

MEMBERS: Final = frozenset({"resourceType", "id", "meta", "language", "code", "subject", "extension"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """One stored state.

    Attributes:
        subject: `Patient/3`; None for what is the app's own everywhere
        resource: as the app sent it, with id and version
    """

    id: str
    version: int
    client_id: str
    system: str
    code: str
    subject: str | None
    resource: Json

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


@dataclass(frozen=True, slots=True)
class Sent:
    """A resource that an app has sent, checked."""

    system: str
    code: str
    subject: str | None
    resource: Json


class AppStates:
    """The collection of states; blocking."""

    def __init__(self, store: AuthStore, vault: Vault) -> None:
        self._store = store
        self._rows = store.rows(STATES)
        self._vault = vault

    def open(self) -> None:
        self._store.ensure(
            STATES, [index_on("system", "code", "subject"), index_on("client_id", "subject"), index_on("client_id")]
        )

    def create(self, client: Client, sent: Sent) -> State:
        """
        Raises:
            UnprocessableError: the app keeps as many as it may.
        """
        mine = {"client_id": client.client_id, "subject": sent.subject}
        if self._rows.count_documents(mine, limit=MOST) >= MOST:
            raise UnprocessableError(f"An app keeps {MOST} states of one subject at most.", key="HS-STATE-MANY")
        row: Row = {"_id": new_id(), **mine, "system": sent.system, "code": sent.code, "version": 1}
        row |= {"sealed": self._sealed(sent), "updated_at": now()}
        self._rows.insert_one(row)
        return self._state_of(row)

    def find(self, client: Client, system: str, code: str, subjects: Sequence[str | None]) -> list[State]:
        """The states of a code about some subjects, as far as the app may know of them."""
        query: Row = {"system": system, "code": code, "subject": {"$in": list(subjects)}}
        if system not in client.state_systems:
            query["client_id"] = client.client_id
        return [self._state_of(row) for row in self._rows.find(query).sort("_id", 1).limit(1000)]

    def get(self, client: Client, id: str) -> State | None:
        """One state; None when there is none of which the app may know."""
        row = self._rows.find_one({"_id": id})
        known = row is not None and (row["client_id"] == client.client_id or row["system"] in client.state_systems)
        return self._state_of(row) if row is not None and known else None

    def replace(self, there: State, version: int, sent: Sent) -> State:
        """
        Raises:
            PreconditionFailedError: it has another version by now, or is of another code or subject.
        """
        if (sent.system, sent.code, sent.subject) != (there.system, there.code, there.subject):
            raise PreconditionFailedError("The code and the subject of a state do not change.", key="HS-STATE-VERSION")
        changed = {"sealed": self._sealed(sent), "updated_at": now()}
        row = self._rows.find_one_and_update(
            {"_id": there.id, "version": version},
            {"$set": changed, "$inc": {"version": 1}},
            return_document=ReturnDocument.AFTER,
        )
        if row is None:
            raise changed_since()
        return self._state_of(row)

    def delete(self, there: State, version: int) -> None:
        """
        Raises:
            PreconditionFailedError: it has another version by now.
        """
        if self._rows.delete_one({"_id": there.id, "version": version}).deleted_count == 0:
            raise changed_since()

    def _sealed(self, sent: Sent) -> bytes:
        return self._vault.sealed(codec.encode(sent.resource).decode())

    def _state_of(self, row: Row) -> State:
        version = row["version"]
        resource: Json = codec.decode(self._vault.opened(row["sealed"]).encode())
        meta = {**resource.pop("meta", {}), "versionId": str(version)}
        resource.pop("id", None)
        shown = {"resourceType": resource.pop("resourceType"), "id": row["_id"], "meta": meta, **resource}
        return State(row["_id"], version, row["client_id"], row["system"], row["code"], row["subject"], shown)


def changed_since() -> PreconditionFailedError:
    return PreconditionFailedError("There is no such state in the version that If-Match names.", key="HS-STATE-VERSION")


def sent_of(body: bytes, issuer: str, id: str | None = None) -> Sent:
    """The resource in a body.

    Args:
        body: what was sent
        issuer: the FHIR base, with which absolute references begin
        id: of an update, what the resource must be called

    Raises:
        InvalidError: it is no such resource, or holds what would not be kept.
    """
    resource = codec.decode(body)
    if not isinstance(resource, dict) or resource.get("resourceType") != "Basic":
        raise _invalid("App state is a Basic resource.", "Basic")
    if unknown := sorted(resource.keys() - MEMBERS):
        raise _invalid(f"App state has no member `{unknown[0][:64]}`.", f"Basic.{unknown[0][:64]}")
    meta = resource.get("meta", {})
    if not isinstance(meta, dict):
        raise _invalid("`meta` is an object.", "Basic.meta")
    if id is None and ("id" in resource or "versionId" in meta):
        raise _invalid("New state has no id and no version: the server gives them.", "Basic.id")
    if id is not None and resource.get("id") != id:
        raise _invalid("The id is that of the address.", "Basic.id")
    system, code = _coding_of(resource.get("code"))
    _check_extensions(resource.get("extension", []))
    return Sent(system, code, _subject_of(resource, issuer), resource)


def _coding_of(concept: Any) -> tuple[str, str]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    coding = codings[0] if isinstance(codings, list) and len(codings) == 1 else None
    if isinstance(coding, dict):
        system, code = coding.get("system"), coding.get("code")
        if isinstance(system, str) and isinstance(code, str) and system and code and len(system) + len(code) < 1000:
            return system, code
    raise _invalid("The code has exactly one coding, with a system and a code.", "Basic.code.coding")


def _subject_of(resource: Json, issuer: str) -> str | None:
    if "subject" not in resource:
        return None
    subject = resource["subject"]
    return subject_named(subject.get("reference") if isinstance(subject, dict) else None, issuer)


def subject_named(reference: Any, issuer: str) -> str:
    """The subject of an absolute reference, `Patient/3`.

    Raises:
        InvalidError: it is none, or leads elsewhere.
    """
    if isinstance(reference, str) and reference.startswith(f"{issuer}/"):
        kind, _, id = reference.removeprefix(f"{issuer}/").partition("/")
        if kind in SUBJECTS and id and id.replace("-", "").replace(".", "").isalnum() and id.isascii():
            return f"{kind}/{id}"
    raise _invalid(
        f"The subject is an absolute reference to a {', '.join(SUBJECTS)} of this server, {issuer}/Patient/3.",
        "Basic.subject.reference",
    )


def _check_extensions(extensions: Any) -> None:
    good = isinstance(extensions, list) and all(
        isinstance(extension, dict)
        and extension.keys() == {"url", "valueString"}
        and all(isinstance(value, str) and value for value in extension.values())
        for extension in extensions
    )
    if not good:
        raise _invalid("An extension of app state has a url and a valueString.", "Basic.extension")


def _invalid(text: str, expression: str) -> InvalidError:
    return InvalidError(text, expression=expression, key="HS-STATE-INVALID")


def subjects_for(identity: Identity, verb: Verb, system: str, code: str) -> list[str | None]:
    """About whom an app may do that with states of a code: the patient in context, the user, nobody in particular.

    State of nobody in particular is for all users of an app: only an administrator's app changes it.
    """
    levels = {scope.level for scope in identity.scopes if _covers(scope, verb, system, code)}
    subjects: list[str | None] = []
    if levels & {"patient", "user"} and identity.patient is not None:
        subjects.append(identity.patient)
    if "user" in levels:
        if identity.fhir_user is not None and identity.fhir_user not in subjects:
            subjects.append(identity.fhir_user)
        if verb in ("r", "s") or identity.role == "administrator":
            subjects.append(None)
    return subjects


def require(identity: Identity, verb: Verb, system: str, code: str, subject: str | None) -> None:
    """
    Raises:
        ForbiddenError: the token does not allow it.
    """
    if subject not in subjects_for(identity, verb, system, code):
        raise ForbiddenError(
            "The access token does not allow that for this code and this subject.", key="HS-STATE-FORBIDDEN"
        )


def _covers(scope: Scope, verb: Verb, system: str, code: str) -> bool:
    if scope.type not in ("Basic", ANY_TYPE) or verb not in scope.verbs:
        return False
    return all(name == "code" and f"{system}|{code}" in value.split(",") for name, value in scope.criteria)
