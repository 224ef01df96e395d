"""`grant_type=refresh_token`: a new access token without the user, as long as the authorization holds.

Spec: RFC 6749 section 6, OpenID Connect Core section 12,
https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#refresh-access-token
"""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant

from smart_auth import scopes
from smart_auth.client_auth import OAuthClient
from smart_auth.model import Account
from smart_auth.oauth import AUTH_METHODS, OAuthServer
from smart_auth.refresh_tokens import RefreshToken
from smart_auth.token_answer import account_of, answer_of


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]  # Authlib ships no types
    """`grant_type=refresh_token`."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: OAuthServer

    def authenticate_token_endpoint_client(self) -> OAuthClient:
        """Who asks. A public app need not say: it can prove nothing, and the token tells whose it is.

        The refresh request of SMART has no `client_id`, and apps leave it out.
        Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#request-6
        """
        form = self.request.form
        if not (
            {"client_id", "client_secret", "client_assertion"} & form.keys() or "authorization" in self.request.headers
        ):
            token = self.authenticate_refresh_token(form.get("refresh_token", ""))
            client = self.server.query_client(token.client_id) if token is not None else None
            if client is not None and client.check_endpoint_auth_method("none", "token"):
                self.request.noted.client_id = client.get_client_id()
                return client
        named: OAuthClient = super().authenticate_token_endpoint_client()
        return named

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        return self.server.parts.refresh_tokens.find(refresh_token)

    def _validate_token_scope(self, token: RefreshToken) -> None:
        """What is asked for lies within what was granted (by meaning: `.read` lies within `.rs`)."""
        wanted = self.request.payload.scope
        self.server.validate_requested_scope(wanted)
        if wanted and not scopes.within(wanted, token.scope):
            raise InvalidScopeError("The scope goes beyond what was granted")

    def authenticate_user(self, refresh_token: RefreshToken) -> Account:
        """The person, if the authorization still holds.

        Raises:
            InvalidGrantError: it does not.
        """
        grant = self.server.parts.authorizations.get(refresh_token.grant_id)
        if grant is None or grant.revoked_at is not None:
            raise InvalidGrantError("The authorization was revoked")
        account = account_of(self.server, grant)
        if not scopes.has(grant.scope, scopes.OFFLINE) and not self.server.sessions.alive(grant.session_id or ""):
            self.server.parts.authorizations.revoke(grant.id)
            raise InvalidGrantError("The user has signed out")
        self.grant = grant
        return account

    def issue_token(self, user: Account, refresh_token: RefreshToken) -> dict[str, Any]:
        following = self.server.parts.refresh_tokens.replace(refresh_token)
        if following is None:
            self.request.noted.detail = "a refresh token was used twice"
            self.server.parts.authorizations.revoke(refresh_token.grant_id)
            raise InvalidGrantError("The refresh token was used before: all tokens of this authorization are revoked")
        self.server.parts.authorizations.used(self.grant.id)
        scope = self.request.payload.scope or refresh_token.scope
        return answer_of(self.server, self.request, user, self.grant, scope, following)

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """It was used up when the next one was made."""
