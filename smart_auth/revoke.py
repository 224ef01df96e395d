"""Token revocation: an app gives back what it was given.

A refresh token stands for the whole authorization, which ends with it, access tokens included. An access token ends
alone.

Spec: RFC 7009
"""

from __future__ import annotations

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError

from smart_auth.bearer import Bearer, TokenError
from smart_auth.oauth import AUTH_METHODS, Exchange, OAuthServer
from smart_auth.revocations import Revocations


class Revocation:
    """The revocation endpoint."""

    def __init__(self, server: OAuthServer, bearer: Bearer, revocations: Revocations) -> None:
        self._server = server
        self._bearer = bearer
        self._revocations = revocations

    def revoke(self, exchange: Exchange) -> None:
        """End the token of the request; one that is unknown, or has ended, counts as done.

        Raises:
            OAuth2Error: the client has not proved who it is, names no token, or one of another client.
        """
        client_id = self._server.authenticate_client(exchange, AUTH_METHODS).get_client_id()
        text = exchange.form.get("token")
        if text is None:
            raise InvalidRequestError("Name the token")
        refresh_token = self._server.parts.refresh_tokens.find(text)
        if refresh_token is not None:
            _require_own(refresh_token.client_id, client_id)
            self._server.parts.authorizations.revoke(refresh_token.grant_id)
            exchange.noted.detail = "a refresh token, and all that came from the authorization"
            return
        try:
            claims = self._bearer.claims(text)
        except TokenError:
            return
        _require_own(claims["client_id"], client_id)
        self._revocations.revoke("token", claims["jti"])
        exchange.noted.account_id = claims["sub"]
        exchange.noted.detail = "an access token"


def _require_own(owner: str, client_id: str) -> None:
    if owner != client_id:
        raise InvalidGrantError("The token is another client's")
