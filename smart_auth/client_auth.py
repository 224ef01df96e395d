"""Who the client is that sends a request to the token endpoint and its neighbours: by secret, by signature, or by name.

Authlib tries the methods; here is what they ask of us, and what SMART asks beyond them: signatures by RSA or elliptic
curves alone, five minutes at most, each assertion once.

Spec: RFC 6749 section 2.3, RFC 7523 section 3,
https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any, Final

from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidRequestError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jwt
from joserfc.errors import JoseError
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from smart_auth import scopes
from smart_auth.client_keys import ClientKeys, KeysError
from smart_auth.clients import has_secret
from smart_auth.model import Client
from smart_auth.rows import digest_of
from smart_auth.store import AuthStore

ASSERTIONS: Final = "assertions"

#: SMART asks for RS384 and ES384; the others are as strong. None that a public key could be mistaken for a secret in.
SIGNING_ALGORITHMS: Final = ("RS384", "ES384", "RS256", "ES256", "RS512", "ES512", "PS256", "PS384", "PS512")

LONGEST_ASSERTION_S: Final = 300
#: How far a client's clock may be off.
LEEWAY_S: Final = 30


class OAuthClient(ClientMixin):  # type: ignore[misc]  # Authlib ships no types
    """A client, as Authlib asks about it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get_client_id(self) -> str:
        return self.client.client_id

    def get_default_redirect_uri(self) -> str | None:
        """None: SMART and OpenID Connect ask for the parameter."""
        return None

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What of the wanted scope the client may have; None when that is nothing."""
        return scopes.narrowed(scope or "", self.client.scope) or None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.client.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return has_secret(self.client, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """The registered method, at every endpoint; whoever has a secret may send it by HTTP Basic (section 2.3.1)."""
        if method == "client_secret_basic":
            return self.client.auth_method in ("client_secret_basic", "client_secret_post")
        return method == self.client.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.client.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.client.grant_types


class PrivateKeyJwt(JWTBearerClientAssertion):  # type: ignore[misc]  # Authlib ships no types
    """`private_key_jwt`: the client signs who it is."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, store: AuthStore, keys: ClientKeys, audiences: tuple[str, ...]) -> None:
        super().__init__(validate_jti=True, leeway=LEEWAY_S)
        self._store = store
        self._keys = keys
        self._audiences = audiences

    def open(self) -> None:
        self._store.ensure(ASSERTIONS, [IndexModel("ends_at", expireAfterSeconds=0)])

    def extract_assertion(self, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header and the claims, unverified."""
        try:
            header, claims = super().extract_assertion(assertion)
        except (ValueError, TypeError, RecursionError):
            raise InvalidClientError(description="The assertion is not well-formed") from None
        return header, claims

    def get_audiences(self) -> list[str]:
        return list(self._audiences)

    def resolve_client_public_key(self, client: OAuthClient) -> OAuthClient:
        """The client itself: which keys are wanted depends on the header, which is read below."""
        return client

    def process_assertion_claims(self, assertion: str, resolve_key: OAuthClient) -> dict[str, Any]:
        """Verify the signature, then what it signs."""
        client = resolve_key.client
        if client.auth_method != self.CLIENT_AUTH_METHOD:
            raise InvalidClientError(description="The client is registered with another way to authenticate")
        header, _ = self.extract_assertion(assertion)
        if header.get("alg") not in SIGNING_ALGORITHMS:
            raise InvalidClientError(description="The assertion is not signed with an algorithm that is accepted")
        if "jku" in header and header["jku"] != client.jwks_uri:
            raise InvalidClientError(description="The header jku is not the registered address of the key set")
        kid = header.get("kid")
        try:
            keys = self._keys.of(client, kid if isinstance(kid, str) else None)
            token = jwt.decode(assertion, keys, algorithms=SIGNING_ALGORITHMS)
        except KeysError:
            raise InvalidClientError(description="The key set of the client cannot be had") from None
        except (JoseError, ValueError, TypeError):
            raise InvalidClientError(description="The signature of the assertion cannot be verified") from None
        self.verify_claims(token.claims)
        return token.claims

    def verify_claims(self, claims: dict[str, Any]) -> None:
        try:
            super().verify_claims(claims)
        except (ValueError, OverflowError):
            raise InvalidClientError(description="The claims of the assertion are not well-formed") from None

    def validate_jti(self, claims: dict[str, Any], jti: str) -> bool:
        """The last check: the assertion is short-lived, and is used for the first time."""
        moment, ends = time.time(), float(claims["exp"])
        if not math.isfinite(ends) or ends > moment + LONGEST_ASSERTION_S + LEEWAY_S:
            raise InvalidClientError(description="The assertion is good for more than five minutes")
        if "iat" in claims and ends - claims["iat"] > LONGEST_ASSERTION_S:
            raise InvalidClientError(description="The assertion is good for more than five minutes")
        if not jti:
            return False
        row = {
            "_id": digest_of(f"{claims['sub']} {jti}"),
            "ends_at": datetime.fromtimestamp(ends + 2 * LEEWAY_S, UTC),
        }
        try:
            self._store.rows(ASSERTIONS).insert_one(row)
        except DuplicateKeyError:
            return False
        return True


def check_one_way(form: dict[str, str], authorization: str | None) -> None:
    """Refuse a request that authenticates in two ways (RFC 6749 section 2.3)."""
    ways = [
        bool(authorization and authorization.lower().startswith("basic ")),
        "client_secret" in form,
        "client_assertion" in form,
    ]
    if sum(ways) > 1:
        raise InvalidRequestError("The client authenticates in more than one way")
