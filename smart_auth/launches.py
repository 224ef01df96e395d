"""One-time launch tokens of the EHR launch, and what an app may be launched with.

A token is a secret of 256 bits; the database holds a digest. It is good once, for five minutes, for one client, and for
the account whose user pressed the button: what was launched by one person cannot be taken up by another.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch,
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#fhircontext-exp
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from starlette.concurrency import run_in_threadpool

from fhir_server.model.errors import InvalidError
from smart_auth.model import Client, Launch, LaunchContext
from smart_auth.rows import digest_of, new_secret, now, object_of, plain_of
from smart_auth.store import AuthStore, Row, index_on

LAUNCHES: Final = "launches"
LASTS: Final = timedelta(minutes=5)

LONGEST_INTENT: Final = 200
MOST_CONTEXT: Final = 50
LARGEST_CONTEXT: Final = 16_384

REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]{1,63})/[A-Za-z0-9\-.]{1,64}")
CONTEXT_MEMBERS: Final = frozenset({"reference", "canonical", "identifier", "type", "role"})

#: What a resource in the context is there for when nothing is said.
LAUNCH_ROLE: Final = "launch"


class LaunchTokens:
    """The tokens that are out; fills the port `Launches`."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store
        self._rows = store.rows(LAUNCHES)

    def open(self) -> None:
        self._store.ensure(LAUNCHES, [index_on("expires_at", expires=True)])

    def make(self, client_id: str, account_id: str, context: LaunchContext) -> str:
        """A new token; blocking."""
        token = new_secret()
        row: Row = {
            "_id": digest_of(token),
            "client_id": client_id,
            "expires_at": now() + LASTS,
            "account_id": account_id,
            "context": plain_of(context),
        }
        self._rows.insert_one(row)
        return token

    async def redeem(self, token: str, client_id: str) -> Launch | None:
        """What a launch token stands for, once; None when it is unknown, used, expired, or another client's."""
        return await run_in_threadpool(self._redeem, token, client_id)

    def _redeem(self, token: str, client_id: str) -> Launch | None:
        if len(token) > 200 or not token.isascii():
            return None
        row = self._rows.find_one_and_delete(
            {"_id": digest_of(token), "client_id": client_id, "expires_at": {"$gt": now()}}
        )
        return None if row is None else object_of(Launch, row, "_id")


def can_be_launched(client: Client | None) -> bool:
    """Whether that is an app that an EHR launch can open."""
    return (
        client is not None and client.active and bool(client.launch_url) and "authorization_code" in client.grant_types
    )


def address_of(client: Client, issuer: str, token: str) -> str:
    """Where the browser goes: the app's launch address, with the FHIR base and the token."""
    joint = "&" if urlsplit(client.launch_url).query else "?"
    return f"{client.launch_url.rstrip('?&')}{joint}{urlencode({'iss': issuer, 'launch': token})}"


def checked_reference(text: str, resource_type: str, expression: str) -> str | None:
    """A reference such as `Patient/3`, or the id alone; None for an empty text.

    Raises:
        InvalidError: it is neither.
    """
    if not text:
        return None
    reference = text if "/" in text else f"{resource_type}/{text}"
    found = REFERENCE.fullmatch(reference)
    if found is None or found[1] != resource_type:
        raise InvalidError(
            f"`{expression}` is a reference such as {resource_type}/3.", expression=expression, key="HS-LAUNCH-CONTEXT"
        )
    return reference


def checked_intent(intent: str) -> str:
    """
    Raises:
        InvalidError: it is too long, or holds control characters.
    """
    if len(intent) > LONGEST_INTENT or not intent.isprintable():
        raise InvalidError(
            f"`intent` has up to {LONGEST_INTENT} printable characters.", expression="intent", key="HS-LAUNCH-CONTEXT"
        )
    return intent


def checked_context(entries: Any, types: Collection[str] | None = None) -> tuple[dict[str, Any], ...]:
    """The objects of `fhirContext`, when each is as SMART wants it.

    Whether the user may read the resources is judged when the app reads them; here nobody learns what exists.

    Args:
        entries: what was sent
        types: the types of resources that there are; None: any

    Raises:
        InvalidError: one is not; it says which, and why.
    """
    if not isinstance(entries, list) or len(entries) > MOST_CONTEXT or len(json.dumps(entries)) > LARGEST_CONTEXT:
        raise InvalidError(
            f"`fhirContext` is a list of up to {MOST_CONTEXT} objects, {LARGEST_CONTEXT} bytes at most.",
            expression="fhirContext",
            key="HS-LAUNCH-CONTEXT",
        )
    for position, entry in enumerate(entries):
        if fault := _fault_of(entry, types):
            raise InvalidError(fault, expression=f"fhirContext[{position}]", key="HS-LAUNCH-CONTEXT")
    return tuple(entries)


def _fault_of(entry: Any, types: Collection[str] | None) -> str:
    """What is wrong with an object of `fhirContext`; empty when nothing is."""
    if not isinstance(entry, dict):
        return "An entry of `fhirContext` is an object."
    unknown = [name for name in entry if name not in CONTEXT_MEMBERS and not _is_absolute(name)]
    if unknown:
        return f"An entry of `fhirContext` has no member `{unknown[0][:40]}`."
    if not entry.keys() & {"reference", "canonical", "identifier"}:
        return "An entry of `fhirContext` has a reference, a canonical or an identifier."
    for name in ("reference", "canonical", "type", "role"):
        if name in entry and not (isinstance(entry[name], str) and entry[name]):
            return f"`{name}` is a text that is not empty."
    if "identifier" in entry and not (isinstance(entry["identifier"], dict) and entry["identifier"]):
        return "`identifier` is an object that is not empty."
    if "canonical" in entry and not _is_absolute(entry["canonical"]):
        return "`canonical` is an absolute URL."
    role = entry.get("role", LAUNCH_ROLE)
    if role != LAUNCH_ROLE and not _is_absolute(role):
        return "`role` is `launch` or an absolute URI."
    reference = REFERENCE.fullmatch(entry["reference"]) if "reference" in entry else None
    if "reference" in entry and reference is None:
        return "`reference` is a relative reference such as ImagingStudy/3."
    named = {kind for kind in (entry.get("type"), reference[1] if reference else None) if kind}
    if len(named) > 1:
        return "`type` is that of the reference."
    if types is not None and not named <= set(types):
        return f"There is no resource type {min(named - set(types))[:64]}."
    if named & {"Patient", "Encounter"} and role == LAUNCH_ROLE:
        return "A patient or an encounter has members of its own; in `fhirContext` it needs another role than `launch`."
    return ""


def _is_absolute(uri: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+", uri) is not None
