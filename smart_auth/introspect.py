"""Token introspection: what a token is good for, said to those who receive it.

Whoever asks proves who they are: a client with its secret or signature, or the bearer of a token. A client may ask
about any token, since it must have received it to ask. A bearer may ask about tokens of its own client; the operator,
administrators and systems about any.

Spec: RFC 7662, https://hl7.org/fhir/smart-app-launch/STU2.2/token-introspection.html
"""

from __future__ import annotations

from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError

from fhir_server.model.access import Identity, Role
from smart_auth.bearer import Bearer, TokenError
from smart_auth.model import LaunchContext
from smart_auth.oauth import CONFIDENTIAL_METHODS, Exchange, OAuthServer
from smart_auth.token_answer import members_of

INACTIVE: Final[dict[str, Any]] = {"active": False}

#: Bearers of these roles may ask about any token.
MAY_ASK_ALL: Final[frozenset[Role]] = frozenset({"operator", "administrator", "system"})


class Introspection:
    """The introspection endpoint."""

    def __init__(self, server: OAuthServer, bearer: Bearer) -> None:
        self._server = server
        self._bearer = bearer

    def answer(self, exchange: Exchange) -> dict[str, Any]:
        """What the token of the request is good for.

        Raises:
            OAuth2Error: whoever asks has not proved who they are, or names no token.
        """
        asker = self._asker(exchange)
        text = exchange.form.get("token")
        if text is None:
            raise InvalidRequestError("Name the token")
        found = self._access_token(text) or self._refresh_token(text)
        if asker is not None and asker.role not in MAY_ASK_ALL and found.get("client_id") != asker.client_id:
            return INACTIVE
        return found

    def _asker(self, exchange: Exchange) -> Identity | None:
        """Who asks: the bearer of a token, or None for a client that has authenticated."""
        header = exchange.headers.get("authorization", "")
        if not header.lower().startswith("bearer "):
            self._server.authenticate_client(exchange, CONFIDENTIAL_METHODS)
            return None
        try:
            return self._bearer.identify(header)
        except TokenError:
            raise InvalidClientError(description="The bearer token is not good", status_code=401) from None

    def _access_token(self, text: str) -> dict[str, Any]:
        try:
            claims = self._bearer.claims(text)
        except TokenError:
            return {}
        grant = self._server.parts.authorizations.get(claims["sid"])
        answer = {
            "active": True,
            "token_type": "Bearer",
            **{name: claims[name] for name in ("client_id", "scope", "exp", "iat", "iss", "sub", "aud", "jti")},
        }
        if claims.get("fhirUser"):
            answer["fhirUser"] = f"{self._server.parts.terms.issuer}/{claims['fhirUser']}"
        context = grant.context if grant else LaunchContext(claims.get("patient"), claims.get("encounter"))
        return {**answer, **members_of(context)}

    def _refresh_token(self, text: str) -> dict[str, Any]:
        token = self._server.parts.refresh_tokens.find(text)
        if token is None or token.used_at is not None:
            return INACTIVE
        grant = self._server.parts.authorizations.get(token.grant_id)
        if grant is None or grant.revoked_at is not None:
            return INACTIVE
        return {
            "active": True,
            "token_type": "refresh_token",
            "client_id": token.client_id,
            "scope": token.scope,
            "exp": int(token.expires_at.timestamp()),
            "iat": int(token.issued_at.timestamp()),
            "iss": self._server.parts.terms.issuer,
            "sub": grant.account_id,
            **members_of(grant.context),
        }
