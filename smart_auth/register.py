"""Dynamic registration: an app registers itself, and later reads, changes or removes its registration.

What anybody may register, where the policy is `open`, is an app that users authorize one by one. An app that acts for
itself would be let in without anybody's consent: that takes an initial access token, whatever the policy.

Spec: RFC 7591, RFC 7592
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from typing import Any, Final

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError

from smart_auth import scopes
from smart_auth.bearer import Bearer, TokenError
from smart_auth.clients import AUTH_METHODS, ClientError, Clients
from smart_auth.model import Client
from smart_auth.rows import digest_of, new_secret
from smart_auth.terms import Terms

PATH: Final = "/auth/clients"

#: The field of a client's row with the digest of its registration access token.
REGISTRATION_TOKEN: Final = "registration_token"

#: What the server says of a registration, which a change of it must not say (RFC 7592 section 2.2).
SAID_BY_SERVER: Final = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)

TEXTS: Final = (
    "client_name",
    "scope",
    "token_endpoint_auth_method",
    "logo_uri",
    "client_uri",
    "policy_uri",
    "jwks_uri",
)
LISTS: Final = ("redirect_uris", "grant_types", "response_types", "contacts")


class RegistrationError(OAuth2Error):  # type: ignore[misc]  # Authlib ships no types
    """A refused registration, in the standard's words."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in description)
        super().__init__(plain, error=error, status_code=status)


class DynamicRegistration:
    """The registration endpoint, and the configuration endpoint of each client."""

    def __init__(self, terms: Terms, clients: Clients, bearer: Bearer) -> None:
        self._terms = terms
        self._clients = clients
        self._bearer = bearer

    def register(self, body: bytes, authorization: str | None) -> dict[str, Any]:
        """Register an app.

        Raises:
            OAuth2Error: the policy or the registration does not allow it.
        """
        privileged = self._is_privileged(authorization)
        if self._terms.registration == "off" and not privileged:
            raise RegistrationError("access_denied", "Apps cannot register themselves here", 403)
        if self._terms.registration == "token" and not privileged:
            raise RegistrationError("invalid_token", "Registration needs an initial access token", 401)
        data = _object_of(body)
        # Names and logos are what the app says: the gallery shows it once somebody here has looked at it.
        bare = Client(client_id="", name="", auth_method="client_secret_basic", listed=privileged)
        client = self._client_of(data, bare)
        self._check_allowed(client, privileged)
        token = new_secret()
        try:
            client, secret = self._clients.add(client, more={REGISTRATION_TOKEN: digest_of(token)})
        except ClientError as error:
            raise RegistrationError(error.error, str(error)) from None
        answer = {**self._said(client), "registration_access_token": token}
        if secret:
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}
        return answer

    def read(self, client_id: str, authorization: str | None) -> dict[str, Any]:
        """A client's registration, told to the client."""
        return self._said(self._authenticated(client_id, authorization))

    def change(self, client_id: str, body: bytes, authorization: str | None) -> dict[str, Any]:
        """Replace a client's registration by another of the same id; what is left out gets its default."""
        client = self._authenticated(client_id, authorization)
        data = _object_of(body)
        if data.get("client_id") != client_id or any(name in data for name in SAID_BY_SERVER):
            raise InvalidRequestError("A changed registration holds the client_id, and nothing that the server says")
        bare = Client(
            client_id=client_id, name="", auth_method="client_secret_basic", role=client.role,
            organization=client.organization, created_at=client.created_at, description=client.description,
            publisher=client.publisher, listed=client.listed, state_systems=client.state_systems,
        )  # fmt: skip
        changed = self._client_of(data, bare)
        if changed.auth_method != client.auth_method:
            raise RegistrationError("invalid_client_metadata", "The way to authenticate cannot be changed")
        # What was allowed before may stay; what goes beyond it is as for a new client.
        if not scopes.within(changed.scope, client.scope) or set(changed.grant_types) - set(client.grant_types):
            self._check_allowed(changed, privileged=False)
        try:
            return self._said(self._clients.update(changed))
        except ClientError as error:
            raise RegistrationError(error.error, str(error)) from None

    def remove(self, client_id: str, authorization: str | None) -> None:
        """Take a client away, with all that it was allowed."""
        self._authenticated(client_id, authorization)
        self._clients.remove(client_id)

    def _is_privileged(self, authorization: str | None) -> bool:
        """Whether the initial access token is there: the configured one, the operator's, or an administrator's."""
        scheme, _, token = (authorization or "").partition(" ")
        expected = self._terms.registration_token
        if scheme.lower() == "bearer" and expected and hmac.compare_digest(token.strip().encode(), expected.encode()):
            return True
        try:
            return self._bearer.identify(authorization).role in ("operator", "administrator")
        except TokenError:
            return False

    def _authenticated(self, client_id: str, authorization: str | None) -> Client:
        scheme, _, token = (authorization or "").partition(" ")
        stored = self._clients.field(client_id, REGISTRATION_TOKEN) or ""
        client = self._clients.active(client_id)
        # The same answer for an unknown client and for a wrong token (RFC 7592 section 2.1).
        if client is None or scheme.lower() != "bearer" or not hmac.compare_digest(digest_of(token.strip()), stored):
            raise RegistrationError("invalid_token", "The registration access token is not good", 401)
        return client

    def _check_allowed(self, client: Client, privileged: bool) -> None:
        if privileged:
            return
        if "client_credentials" in client.grant_types or any(
            scope.level == "system" for scope in scopes.scopes_of(client.scope)
        ):
            raise RegistrationError(
                "invalid_client_metadata",
                "An app that acts for itself is registered by an administrator of this server",
            )
        if scopes.has(client.scope, scopes.ACCOUNTS):
            raise RegistrationError(
                "invalid_client_metadata",
                "An app that manages accounts is registered by an administrator of this server",
            )

    def _client_of(self, data: dict[str, Any], bare: Client) -> Client:
        for name in TEXTS:
            if not isinstance(data.get(name, ""), str):
                raise RegistrationError("invalid_client_metadata", f"{name} is a text")
        for name in LISTS:
            value = data.get(name, [])
            if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
                raise RegistrationError("invalid_client_metadata", f"{name} is a list of texts")
        if not isinstance(data.get("jwks", {}), dict):
            raise RegistrationError("invalid_client_metadata", "jwks is an object")
        method = data.get("token_endpoint_auth_method", "client_secret_basic")
        if method not in AUTH_METHODS:
            raise RegistrationError(
                "invalid_client_metadata", f"The ways to authenticate are {', '.join(AUTH_METHODS)}"
            )
        if set(data.get("response_types", ["code"])) - {"code"}:
            raise RegistrationError("invalid_client_metadata", "The response type is code")
        if "software_statement" in data:
            raise RegistrationError("unapproved_software_statement", "Software statements are not supported")
        redirect_uris = tuple(data.get("redirect_uris", ()))
        return replace(
            bare,
            name=data.get("client_name") or "An app without a name",
            auth_method=method,
            redirect_uris=redirect_uris,
            # Scopes that this server does not know are left out, as the answer tells (RFC 7591 section 3.2.1).
            scope=scopes.known(data.get("scope", ""), self._terms.resource_types),
            grant_types=tuple(data.get("grant_types", ("authorization_code",))),
            launch_url=_text(data, "initiate_login_uri") or _text(data, "launch_url"),
            logo_uri=_text(data, "logo_uri"),
            client_uri=_text(data, "client_uri"),
            policy_uri=_text(data, "policy_uri"),
            contacts=tuple(data.get("contacts", ())),
            jwks=data.get("jwks") or None,
            jwks_uri=_text(data, "jwks_uri"),
        )

    def _said(self, client: Client) -> dict[str, Any]:
        said: dict[str, Any] = {
            "client_id": client.client_id,
            "client_id_issued_at": int(client.created_at.timestamp()) if client.created_at else 0,
            "client_name": client.name,
            "token_endpoint_auth_method": client.auth_method,
            "grant_types": list(client.grant_types),
            "response_types": ["code"] if "authorization_code" in client.grant_types else [],
            "redirect_uris": list(client.redirect_uris),
            "scope": client.scope,
            "launch_url": client.launch_url,
            "logo_uri": client.logo_uri,
            "client_uri": client.client_uri,
            "policy_uri": client.policy_uri,
            "contacts": list(client.contacts),
            "jwks": client.jwks,
            "jwks_uri": client.jwks_uri,
            "registration_client_uri": self._terms.at(f"{PATH}/{client.client_id}"),
        }
        return {name: value for name, value in said.items() if value not in ("", None, [])}


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise RegistrationError("invalid_client_metadata", "The body is a JSON object")
    return data


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name, "")
    return value if isinstance(value, str) else ""
