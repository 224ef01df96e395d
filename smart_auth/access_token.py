"""Access tokens: signed JWTs that say all that a request is judged by, so that judging it asks no database.

Spec: RFC 9068
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt

from fhir_server.model.access import Identity, Role
from fhir_server.model.clock import new_id
from smart_auth.keys import LONGEST_TOKEN_S, Keys
from smart_auth.scopes import scopes_of

TYPE: Final = "at+jwt"
ALGORITHM: Final = "ES256"


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token, and what the answer says of it."""

    text: str
    token_id: str
    lasts_s: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says of its holder; see `Identity`."""

    subject: str
    client_id: str
    scope: str
    role: Role
    grant_id: str = ""
    organization: str | None = None
    fhir_user: str | None = None
    patient: str | None = None
    encounter: str | None = None
    patients: tuple[str, ...] = ()
    purpose: str = ""
    reason: str = ""


class AccessTokens:
    """Signs access tokens of this server."""

    def __init__(self, keys: Keys, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer

    def issue(self, claims: Claims, lasts_s: int) -> Issued:
        """Sign a token that is good for some seconds, a day at most."""
        lasts_s = min(lasts_s, LONGEST_TOKEN_S)
        # A UUID of version 7 begins with the millisecond in which it was made, by which revocations tell what was
        # issued before them; `iat` counts whole seconds.
        token_id, moment = new_id(), int(time.time())
        body: dict[str, Any] = {
            "iss": self._issuer,
            "sub": claims.subject,
            "aud": self._issuer,
            "exp": moment + lasts_s,
            "iat": moment,
            "jti": token_id,
            "client_id": claims.client_id,
            "scope": claims.scope,
            # A client that acts for itself has no authorization that could be revoked but the token itself.
            "sid": claims.grant_id or token_id,
            "role": claims.role,
            "org": claims.organization,
            "fhirUser": claims.fhir_user,
            "patient": claims.patient,
            "encounter": claims.encounter,
            "acts_for": list(claims.patients),
            "purpose": claims.purpose,
            "reason": claims.reason,
        }
        key = self._keys.signing(ALGORITHM)
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.kid}
        text = jwt.encode(header, {name: value for name, value in body.items() if value}, key.key, [ALGORITHM])
        return Issued(text, token_id, lasts_s)


def made_ms_of(token_id: str) -> int:
    """The millisecond in which a token was made, as its id says.

    >>> made_ms_of("01a2033c-c08e-74ec-80e5-2810ebb39cd2")
    1795350842510
    """
    return int(token_id[:8] + token_id[9:13], 16)


def identity_of(claims: dict[str, Any], purposes: Mapping[str, str]) -> Identity:
    """Who a token with these claims identifies; `purposes` says for what each role asks where the token does not."""
    return Identity(
        subject=claims["sub"],
        client_id=claims["client_id"],
        role=claims["role"],
        scopes=scopes_of(claims.get("scope", "")),
        scope=claims.get("scope", ""),
        fhir_user=claims.get("fhirUser"),
        organization=claims.get("org"),
        patient=claims.get("patient"),
        encounter=claims.get("encounter"),
        patients=tuple(claims.get("acts_for", ())),
        purpose=claims.get("purpose") or purposes.get(claims["role"], ""),
        reason=claims.get("reason", ""),
        token_id=claims["jti"],
        grant_id=claims["sid"],
        expires_us=int(claims["exp"]) * 1_000_000,
    )
