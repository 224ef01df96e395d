"""`grant_type=authorization_code`: the code that the browser brought, for tokens.

Spec: RFC 6749 section 4.1, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-access-token
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant

from smart_auth import scopes
from smart_auth.client_auth import OAuthClient
from smart_auth.codes import Code
from smart_auth.model import Account
from smart_auth.oauth import AUTH_METHODS, OAuthAnswer, OAuthServer
from smart_auth.rows import now
from smart_auth.token_answer import account_of, answer_of


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib ships no types
    """Authlib checks the client, the redirect URI and, by `Pkce`, the verifier; then the code is used up."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    server: OAuthServer

    def query_authorization_code(self, code: str, client: OAuthClient) -> Code | None:
        return self.server.parts.codes.find(code, client.get_client_id())

    def create_token_response(self) -> OAuthAnswer:
        code: Code = self.request.authorization_code
        if not self.server.parts.codes.claim(code):
            # Somebody else has it too: what came from the first use is no longer trusted (RFC 6749 section 4.1.2).
            self.request.noted.detail = "a code was used twice"
            self.server.parts.authorizations.revoke(code.grant.id)
            raise InvalidGrantError("The code was used before: all tokens that came from it are revoked")
        answer: OAuthAnswer = super().create_token_response()
        return answer

    def authenticate_user(self, authorization_code: Code) -> Account:
        return account_of(self.server, authorization_code.grant)

    def generate_token(self, user: Account, scope: str, include_refresh_token: bool, **_: Any) -> dict[str, Any]:
        parts, grant = self.server.parts, self.request.authorization_code.grant
        moment = now()
        # The time that the user allowed begins when the app takes it up.
        lasts = (
            (grant.expires_at - grant.created_at)
            if grant.expires_at
            else timedelta(seconds=parts.terms.refresh_token_s)
        )
        grant = replace(grant, expires_at=moment + lasts, last_used_at=moment)
        parts.authorizations.add(grant)
        refreshes = include_refresh_token and scopes.lasts(scope)
        refresh_token = parts.refresh_tokens.make(grant, grant.expires_at) if refreshes else ""
        return answer_of(self.server, self.request, user, grant, scope, refresh_token, grant.nonce)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It was used up before the tokens were made, and is kept for a while to know a second use."""
