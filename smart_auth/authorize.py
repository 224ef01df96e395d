"""The authorization request, checked: what an app asks for before anybody is asked to sign in.

What is wrong is told to the app by a redirect, unless the app or its redirect URI is what is wrong: then the user sees
a page, since nobody may be sent to an address that is not registered.

Spec: RFC 6749 section 4.1.1, RFC 9700 section 2.1,
https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code,
https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError, InvalidScopeError

from smart_auth import scopes
from smart_auth.model import AuthorizationRequest
from smart_auth.oauth import Exchange, OAuthServer
from smart_auth.rows import new_secret, now

#: Characters that Authlib takes in the texts of errors, which repeat these parameters.
PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")
REPEATED: Final = ("response_type", "client_id", "redirect_uri", "code_challenge_method")

LONGEST_PARAMETER: Final = 4096
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})


class RefusedError(Exception):
    """An authorization request that is refused.

    Attributes:
        error: the standard's word
        redirect: where the browser is sent; empty when the user sees a page
    """

    def __init__(self, error: str, description: str, redirect: str = "") -> None:
        self.error = error
        self.description = description
        self.redirect = redirect
        super().__init__(description)


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request, and the launch token that came with it."""

    request: AuthorizationRequest
    launch: str


class SmartParameters:
    """What SMART and OpenID Connect add to the request, as an extension of the code grant."""

    def __init__(self, server: OAuthServer) -> None:
        self._terms = server.parts.terms

    def __call__(self, grant: Any) -> None:
        grant.register_hook("after_validate_authorization_request_payload", self.check)

    def check(self, grant: Any, _: object) -> None:
        data: dict[str, str] = grant.request.payload.data
        if any(len(value) > LONGEST_PARAMETER for name, value in data.items() if name not in ("scope", "launch")):
            raise InvalidRequestError("A parameter is too long")
        if "request" in data:
            raise OAuth2Error("Request objects are not supported", error="request_not_supported")
        if data.get("response_mode", "query") != "query":
            raise InvalidRequestError("The response_mode is query")
        grant.request.scope = scopes.known(grant.request.scope, self._terms.resource_types)
        if not grant.request.scope:
            raise InvalidScopeError("Nothing that was asked for can be granted")
        self._check_aud(data, grant.request.scope)
        prompts = set(data.get("prompt", "").split())
        if prompts - PROMPTS or (len(prompts) > 1 and "none" in prompts):
            raise InvalidRequestError("The prompt is none, or some of login, consent and select_account")
        if not re.fullmatch(r"\d{0,9}", data.get("max_age", "")):
            raise InvalidRequestError("The max_age is a number of seconds")

    def _check_aud(self, data: dict[str, str], scope: str) -> None:
        """The app must mean this server: a token for it is of no use to a server that only pretends to be it.

        An app that only wants to know who the user is (OpenID Connect alone) has no resource to name.
        """
        aud = data.get("aud", data.get("resource", ""))
        if not aud and not scopes.scopes_of(scope) and "launch" not in data:
            return
        if aud.removesuffix("/") != self._terms.issuer:
            raise InvalidRequestError("The aud is not the FHIR base of this server")


def asked_of(server: OAuthServer, data: dict[str, str]) -> Asked:
    """Check the parameters of an authorization request.

    Raises:
        RefusedError: the request is refused; it says how.
    """
    _require_plain(data)
    exchange = Exchange("GET", data, {})
    try:
        grant = server.get_consent_grant(exchange)
    except OAuth2Error as error:
        raise refused(server, error, data) from None
    created = now()
    return Asked(
        AuthorizationRequest(
            id=new_secret(),
            client_id=data["client_id"],
            redirect_uri=grant.redirect_uri,
            scope=exchange.scope,
            state=data.get("state", ""),
            aud=server.parts.terms.issuer,
            code_challenge=data["code_challenge"],
            created_at=created,
            nonce=data.get("nonce", ""),
            prompt=data.get("prompt", ""),
            max_age_s=int(data["max_age"]) if data.get("max_age") else None,
            login_hint=data.get("login_hint", "")[:200],
        ),
        data.get("launch", ""),
    )


def _require_plain(data: dict[str, str]) -> None:
    for name in REPEATED:
        if not PLAIN.fullmatch(data.get(name, "")):
            raise RefusedError("invalid_request", f"The parameter {name} holds characters that it cannot have.")


def refused(server: OAuthServer, error: OAuth2Error, data: dict[str, str]) -> RefusedError:
    """An error of Authlib's, as a redirect where the app is known to own the address."""
    description = error.get_error_description() or "The request is refused"
    if not error.redirect_uri:
        return RefusedError(error.error, description)
    answer = {"error": error.error, "error_description": description}
    return RefusedError(
        error.error, description, redirect_of(server, error.redirect_uri, data.get("state", ""), answer)
    )


def redirect_of(server: OAuthServer, redirect_uri: str, state: str, answer: dict[str, str]) -> str:
    """The address with an authorization response: the state as it came, and who sends it (RFC 9207)."""
    members = {**answer, **({"state": state} if state else {}), "iss": server.parts.terms.issuer}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(members)}"
