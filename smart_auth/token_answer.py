"""The answer of the token endpoint to an app that a user has authorized: tokens, and the launch context.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#response-5
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidGrantError

from smart_auth import scopes
from smart_auth.access_token import Claims
from smart_auth.model import Account, Authorization, LaunchContext
from smart_auth.oauth import Exchange, OAuthServer
from smart_auth.rows import now

STYLE_PATH: Final = "/auth/smart-style.json"


def account_of(server: OAuthServer, grant: Authorization) -> Account:
    """The person who gave an authorization, if they still may use it.

    Raises:
        InvalidGrantError: they were disabled, have changed their credentials since, or no longer act for the patient.
    """
    account = server.sessions.account(grant.account_id or "")
    if account is None or account.state != "active":
        server.parts.authorizations.revoke(grant.id)
        raise InvalidGrantError("The account of the user is not active")
    if account.credentials_changed_at is not None and grant.created_at < account.credentials_changed_at:
        server.parts.authorizations.revoke(grant.id)
        raise InvalidGrantError("The user has changed their credentials since")
    own = account.acts_for
    if own is not None and grant.context.patient is not None and grant.context.patient not in own:
        server.parts.authorizations.revoke(grant.id)
        raise InvalidGrantError("The user no longer acts for the patient")
    return account


def _lasts_s(ends: datetime, longest_s: int) -> int:
    """An access token does not outlast what the user allowed."""
    return max(1, min(longest_s, int((ends - now()).total_seconds())))


def context_of(grant: LaunchContext, scope: str) -> LaunchContext:
    """What of the launch context the scopes let the app know."""
    launched = scopes.has(scope, scopes.LAUNCH)
    return LaunchContext(
        patient=grant.patient if launched or scopes.needs_patient(scope) else None,
        encounter=grant.encounter if launched or scopes.has(scope, scopes.LAUNCH_ENCOUNTER) else None,
        fhir_context=grant.fhir_context if launched else (),
        intent=grant.intent if launched else "",
        need_patient_banner=grant.need_patient_banner,
    )


def members_of(context: LaunchContext) -> dict[str, Any]:
    """The launch context as members of an answer; a patient is named by id, without its type."""
    members: dict[str, Any] = {}
    if context.patient:
        members["patient"] = context.patient.removeprefix("Patient/")
        members["need_patient_banner"] = context.need_patient_banner
    if context.encounter:
        members["encounter"] = context.encounter.removeprefix("Encounter/")
    if context.fhir_context:
        members["fhirContext"] = [dict(entry) for entry in context.fhir_context]
    if context.intent:
        members["intent"] = context.intent
    return members


def answer_of(
    server: OAuthServer,
    request: Exchange,
    account: Account,
    grant: Authorization,
    scope: str,
    refresh_token: str,
    nonce: str = "",
) -> dict[str, Any]:
    """Make the tokens, and the answer with them.

    Args:
        server: the server
        request: the request, where it is noted for the audit trail
        account: who gave the authorization
        grant: the authorization
        scope: what the access token is for, all or some of what was granted
        refresh_token: the one that goes with it; empty for none
        nonce: of the authorization request, for the id token; empty on a refresh
    """
    parts = server.parts
    # The launch is a thing of the authorization: narrowing the scope of one access token does not undo it.
    context = context_of(grant.context, grant.scope)
    issued = parts.access_tokens.issue(
        Claims(
            subject=account.id,
            client_id=grant.client_id,
            scope=scope,
            role=account.role,
            grant_id=grant.id,
            organization=account.organization,
            fhir_user=account.fhir_user,
            patient=context.patient,
            encounter=context.encounter,
            patients=account.patients,
            purpose=grant.purpose,
            reason=grant.reason,
        ),
        parts.terms.access_token_s
        if grant.expires_at is None
        else _lasts_s(grant.expires_at, parts.terms.access_token_s),
    )
    answer: dict[str, Any] = {
        "access_token": issued.text,
        "token_type": "Bearer",
        "expires_in": issued.lasts_s,
        "scope": scope,
        **members_of(context),
        "smart_style_url": parts.terms.at(STYLE_PATH),
    }
    if scopes.has(scope, scopes.OPENID):
        answer["id_token"] = parts.id_tokens.issue(account, grant, scope, issued.text, nonce)
    if refresh_token:
        answer["refresh_token"] = refresh_token
    noted = request.noted
    noted.account_id, noted.fhir_user = account.id, account.fhir_user or ""
    noted.patient = context.patient or ""
    noted.detail = noted.detail or f"{request.payload.grant_type}: {scope}"
    return answer
