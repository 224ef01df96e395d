"""Id tokens: who signed in, said to the app, signed with a key that every OpenID client can verify.

Spec: https://openid.net/specs/openid-connect-core-1_0.html#IDToken,
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-identity-data
"""

from __future__ import annotations

import base64
import time
from hashlib import sha256
from typing import Any, Final

from joserfc import jwt

from smart_auth import scopes
from smart_auth.keys import Keys
from smart_auth.model import Account, Authorization

ALGORITHM: Final = "RS256"
LASTS_S: Final = 3600

#: How sure it is who signed in: by one thing they know or have, or by several.
ONE_FACTOR: Final = "urn:healthsphere:acr:one-factor"
SEVERAL_FACTORS: Final = "urn:healthsphere:acr:several-factors"


class IdTokens:
    """Signs id tokens of this server."""

    def __init__(self, keys: Keys, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer

    def issue(self, account: Account, grant: Authorization, scope: str, access_token: str, nonce: str) -> str:
        """Sign an id token for the app of an authorization."""
        moment = int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": account.id,
            "aud": grant.client_id,
            "exp": moment + LASTS_S,
            "iat": moment,
            "at_hash": _half_of(access_token),
            **about(account, scope, self._issuer),
        }
        if grant.auth_time is not None:
            claims["auth_time"] = int(grant.auth_time.timestamp())
        if grant.methods:
            claims["amr"] = list(grant.methods)
            claims["acr"] = acr_of(grant.methods)
        if nonce:
            claims["nonce"] = nonce
        key = self._keys.signing(ALGORITHM)
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key.key, [ALGORITHM])


def about(account: Account, scope: str, issuer: str) -> dict[str, Any]:
    """What the scopes let an app know of a person: `fhirUser`, and with `profile` their name."""
    claims: dict[str, Any] = {}
    if account.fhir_user and (scopes.has(scope, scopes.FHIR_USER) or scopes.has(scope, scopes.PROFILE)):
        claims["fhirUser"] = f"{issuer}/{account.fhir_user}"
        # What SMART App Launch 1.0 called it.
        claims["profile"] = claims["fhirUser"]
    if scopes.has(scope, scopes.PROFILE) and account.name:
        claims["name"] = account.name
    return claims


def acr_of(methods: tuple[str, ...]) -> str:
    """A passkey is something one has and, to unlock it, something one knows or is."""
    return SEVERAL_FACTORS if len(set(methods)) > 1 or set(methods) & {"hwk", "swk", "mfa"} else ONE_FACTOR


def _half_of(token: str) -> str:
    """The left half of the digest, as `at_hash` carries it."""
    return base64.urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()
