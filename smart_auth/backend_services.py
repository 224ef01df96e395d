"""`grant_type=client_credentials`: a system that acts for itself, without a user.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html, RFC 6749 section 4.4
"""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from smart_auth import scopes
from smart_auth.access_token import Claims
from smart_auth.model import Client
from smart_auth.oauth import CONFIDENTIAL_METHODS, OAuthServer


class BackendGrant(ClientCredentialsGrant):  # type: ignore[misc]  # Authlib ships no types
    """A short access token for what the client is registered for; no refresh token: it can ask again."""

    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL_METHODS
    server: OAuthServer

    def generate_token(self, scope: str | None, **_: Any) -> dict[str, Any]:
        parts, client = self.server.parts, self.request.client.client
        granted = system_scope(scope or "", client, parts.terms.resource_types)
        if not granted:
            raise InvalidScopeError("Ask for scopes of the level system that the client is registered for")
        issued = parts.access_tokens.issue(
            Claims(
                subject=client.client_id,
                client_id=client.client_id,
                scope=granted,
                role=client.role,
                organization=client.organization,
            ),
            parts.terms.backend_token_s,
        )
        self.request.noted.detail = f"client_credentials: {granted}"
        return {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": issued.lasts_s,
            "scope": granted,
        }


def system_scope(asked: str, client: Client, types: frozenset[str] | None) -> str:
    """What of the asked scope a client that acts for itself gets: system scopes that it is registered for."""
    system = [word for word in scopes.words_in(scopes.known(asked, types)) if word.startswith("system/")]
    return scopes.narrowed(" ".join(system), client.scope)
