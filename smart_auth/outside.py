"""Signing in through outside OpenID providers (a health system's own, a national one).

The browser's way there and back is bound to it: `state` is a ticket that only this browser's cookie can redeem, `nonce`
ties the ID token to it, PKCE ties the code to us. An identity is linked to an account by its owner, while signed in;
the same e-mail address alone proves nothing.

Spec: https://openid.net/specs/openid-connect-core-1_0.html, RFC 7636, RFC 9207
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.concurrency import run_in_threadpool

from smart_auth.accounts import now
from smart_auth.parts import Parts
from smart_auth.tickets import digest_of

TICKET = "outside-sign-in"
ALGORITHMS = ["RS256", "ES256", "PS256", "RS384", "ES384", "EdDSA"]
TIMEOUT_S = 10.0
METADATA_LASTS_S = 3600.0
LEEWAY_S = 60


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider that the operator has registered this server with.

    Attributes:
        id: a short name in addresses: `/auth/outside/<id>/callback` is the redirect URI to register
        name: what the button says
    """

    id: str
    name: str
    issuer: str
    client_id: str
    client_secret: str
    scope: str = "openid email profile"


class OutsideError(Exception):
    """The provider did not say who it is; the text is for the log and the trail."""


@dataclass(frozen=True, slots=True)
class OutsideIdentity:
    """Who somebody is at a provider."""

    provider: Provider
    subject: str
    email: str
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """What somebody came back with.

    Attributes:
        next: where they were going
        links: the account that wants to be linked; empty for a sign-in
    """

    identity: OutsideIdentity
    next: str
    links: str


class Outside:
    """The providers."""

    def __init__(self, parts: Parts, providers: tuple[Provider, ...], client: httpx.AsyncClient | None = None) -> None:
        self._parts = parts
        self.providers = {provider.id: provider for provider in providers}
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        self._metadata: dict[str, tuple[float, dict[str, Any], KeySet]] = {}

    async def close(self) -> None:
        await self._client.aclose()

    def _redirect_uri(self, provider: Provider) -> str:
        return f"{self._parts.origin}/auth/outside/{provider.id}/callback"

    async def start(self, provider: Provider, *, next_path: str, links: str = "") -> tuple[str, str]:
        """The address to send the browser to, and the secret for its cookie.

        Raises:
            OutsideError: the provider does not answer.
        """
        metadata, _ = await self._known(provider)
        verifier, nonce, binding = (secrets.token_urlsafe(48) for _ in range(3))
        data = {
            "provider": provider.id,
            "verifier": verifier,
            "nonce": nonce,
            "binding": digest_of(binding),
            "next": next_path,
            "links": links,
        }
        state = await run_in_threadpool(self._parts.tickets.issue, TICKET, data, self._parts.rules.step_lasts)
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self._redirect_uri(provider),
            "scope": provider.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str(metadata["authorization_endpoint"])
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}", binding

    async def back(self, provider: Provider, query: dict[str, str], binding: str) -> Return:
        """Who has come back.

        Raises:
            OutsideError: it is not proven.
        """
        data = await run_in_threadpool(self._parts.tickets.take, TICKET, query.get("state", ""))
        if data is None or data["provider"] != provider.id or data["binding"] != digest_of(binding):
            raise OutsideError("state is unknown, used, or another browser's")
        if query.get("iss", provider.issuer) != provider.issuer:
            raise OutsideError("the answer is from another issuer")
        if "error" in query or not query.get("code"):
            raise OutsideError("the provider answered without a code")
        token = await self._id_token(provider, query["code"], data["verifier"])
        claims = await self._claims(provider, token, data["nonce"])
        amr = claims.get("amr")
        methods = tuple(str(method) for method in amr) if isinstance(amr, list) else ()
        identity = OutsideIdentity(provider, claims["sub"], str(claims.get("email", "")), methods)
        return Return(identity, data["next"], data["links"])

    async def link(self, account_id: str, identity: OutsideIdentity) -> bool:
        """Link an identity with an account whose owner has proven both; False when it has it already.

        Raises:
            IdentityTakenError: another account has it.
        """
        link = {
            "provider": identity.provider.id,
            "subject": identity.subject,
            "email": identity.email,
            "since": now(),
        }
        same = {"$elemMatch": {"provider": identity.provider.id, "subject": identity.subject}}
        changed = await run_in_threadpool(
            lambda: self._parts.accounts.change(account_id, where={"outside": {"$not": same}}, push={"outside": link})
        )
        return changed is not None

    async def unlink(self, account_id: str, provider_id: str, subject: str) -> bool:
        """Whether there was such a link."""
        link = {"provider": provider_id, "subject": subject}
        changed = await run_in_threadpool(
            lambda: self._parts.accounts.change(
                account_id, where={"outside": {"$elemMatch": link}}, pull={"outside": link}
            )
        )
        if changed is not None and not changed.get("outside"):
            # The unique index would take an empty list for a value.
            await run_in_threadpool(
                lambda: self._parts.accounts.change(account_id, where={"outside": []}, unset=("outside",))
            )
        return changed is not None

    # --- the provider's side ------------------------------------------------------------------------------------

    async def _id_token(self, provider: Provider, code: str, verifier: str) -> str:
        metadata, _ = await self._known(provider)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri(provider),
            "code_verifier": verifier,
        }
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = "client_secret_basic" in methods
        if not basic:
            form |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
        # RFC 6749, 2.3.1: both parts are form-encoded before they are joined.
        credentials = httpx.BasicAuth(_quoted(provider.client_id), _quoted(provider.client_secret)) if basic else None
        answer = await self._fetched("POST", str(metadata["token_endpoint"]), data=form, auth=credentials)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OutsideError("the provider gave no ID token")
        return token

    async def _claims(self, provider: Provider, token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that is signed by the provider and meant for us, now (OpenID Core, 3.1.3.7)."""
        for fresh in (False, True):  # a key that is not known may be new
            _, keys = await self._known(provider, fresh=fresh)
            try:
                decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
                break
            except (JoseError, ValueError) as error:
                if fresh:
                    raise OutsideError(f"the ID token does not verify ({type(error).__name__})") from error
        claims = dict(decoded.claims)
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": provider.issuer},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise OutsideError(f"the ID token is not for this sign-in ({type(error).__name__})") from error
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if provider.client_id not in audiences or (len(audiences) > 1 and claims.get("azp") != provider.client_id):
            raise OutsideError("the ID token is for another client")
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise OutsideError("the ID token names nobody")
        return claims

    async def _known(self, provider: Provider, *, fresh: bool = False) -> tuple[dict[str, Any], KeySet]:
        """The provider's metadata and keys, read anew every hour or when asked."""
        found = self._metadata.get(provider.id)
        if found and not fresh and found[0] > time.monotonic():
            return found[1], found[2]
        metadata = await self._fetched("GET", f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if metadata.get("issuer") != provider.issuer or not all(isinstance(metadata.get(name), str) for name in needed):
            raise OutsideError("the provider's metadata is of another issuer, or incomplete")
        try:
            keys = KeySet.import_key_set(await self._fetched("GET", metadata["jwks_uri"]))  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError) as error:
            raise OutsideError("the provider's keys cannot be read") from error
        self._metadata[provider.id] = (time.monotonic() + METADATA_LASTS_S, metadata, keys)
        return metadata, keys

    async def _fetched(self, method: str, address: str, **how: Any) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, address, headers={"Accept": "application/json"}, **how)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise OutsideError(f"the provider does not answer as it should ({type(error).__name__})") from error
        if not isinstance(found, dict):
            raise OutsideError("the provider does not answer with an object")
        return found


def _quoted(text: str) -> str:
    return urlencode({"": text})[1:]
