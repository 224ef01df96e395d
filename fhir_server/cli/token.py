"""`healthsphere token`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.cli.authorization import with_authorization
from fhir_server.cli.trail import tell
from fhir_server.model.happening import Happening
from fhir_server.storage.setup import SetupError
from smart_auth import scopes
from smart_auth.access_token import Claims

if TYPE_CHECKING:
    from fhir_server.model.access import Role

REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")

#: The role that goes with a user's resource, when none is said.
ROLE_OF_TYPE: dict[str, Role] = {
    "Patient": "patient",
    "RelatedPerson": "proxy",
    "Practitioner": "practitioner",
    "PractitionerRole": "practitioner",
    "Person": "patient",
}


class TokenRole(StrEnum):
    PATIENT = "patient"
    PROXY = "proxy"
    PRACTITIONER = "practitioner"
    PHARMACY = "pharmacy"
    FRONT_DESK = "front-desk"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"
    SYSTEM = "system"


def token(
    scope: Annotated[list[str], typer.Argument(help="What it is for, such as `patient/*.rs`; several with spaces.")],
    patient: Annotated[str, typer.Option(help="The patient in context: an id, or Patient/id.")] = "",
    encounter: Annotated[str, typer.Option(help="The encounter in context: an id, or Encounter/id.")] = "",
    user: Annotated[str, typer.Option(help="Whose it is, such as Practitioner/12. Empty: a system's.")] = "",
    role: Annotated[TokenRole | None, typer.Option(help="What the user may do; by default as the user's type.")] = None,
    organization: Annotated[str, typer.Option(help="Whose staff the user is, such as Organization/1.")] = "",
    client_id: Annotated[str, typer.Option(help="The app that it says it is of.")] = "command-line",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long it is good.")] = 60,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the server's own data.")] = None,
    base_url: Annotated[str | None, typer.Option(help="FHIR base as clients see it; the issuer.")] = None,
) -> None:
    """Print an access token for development and scripts, made with the server's own keys.

    It obeys the same rules as a token that an app gets, and `healthsphere client disable` of its client id ends it.
    """
    with with_authorization(data_dir, base_url) as (server, settings):
        text = " ".join(scope)
        unknown = [word for word in scopes.words_in(text) if not scopes.known(word, server.terms.resource_types)]
        if unknown:
            raise SetupError(f"This is no scope: {unknown[0]}. One looks like patient/Observation.rs or openid.")
        who = role.value if role else ROLE_OF_TYPE.get(user.partition("/")[0], "system")
        claims = Claims(
            subject=user or client_id,
            client_id=client_id,
            scope=" ".join(scopes.words_in(text)),
            role=who,
            organization=_reference("--organization", organization, "Organization") or None,
            fhir_user=_reference("--user", user) or None,
            patient=_reference("--patient", patient, "Patient") or None,
            encounter=_reference("--encounter", encounter, "Encounter") or None,
        )
        if claims.patient is None and scopes.needs_patient(text):
            raise SetupError("Scopes of the level patient need a patient: say which with --patient.")
        issued = server.access_tokens.issue(claims, minutes * 60)
        tell(
            settings,
            Happening(
                "token",
                client_id=client_id,
                fhir_user=claims.fhir_user or "",
                patient=claims.patient or "",
                detail=f"{issued.token_id} made by operator for {minutes} minutes as {who}: {claims.scope}",
            ),
        )
    typer.echo(issued.text)


def _reference(option: str, given: str, resource_type: str = "") -> str:
    """A reference, made of an id where the type is clear."""
    if not given:
        return ""
    reference = given if "/" in given else f"{resource_type}/{given}"
    if not REFERENCE.fullmatch(reference) or (resource_type and not reference.startswith(f"{resource_type}/")):
        raise SetupError(
            f"{option} {given}: this is no reference, which looks like {resource_type or 'Practitioner'}/12."
        )
    return reference
