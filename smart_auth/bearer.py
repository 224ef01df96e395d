"""The `Authorization` header of a request, judged: who sends it.

No waiting and no database. A token is verified once and remembered, since verifying a signature costs far more than all
the rest; whether it has ended or was revoked is looked at each time.

Spec: RFC 6750, RFC 9068 section 4
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from fhir_server.model.access import Identity
from fhir_server.model.errors import UnauthorizedError
from smart_auth.access_token import ALGORITHM, TYPE, identity_of, made_ms_of
from smart_auth.keys import Keys
from smart_auth.operator_token import OperatorToken
from smart_auth.revocations import Revocations

Fault = Literal["missing", "malformed", "unknown-key", "expired", "revoked"]

SENTENCES: Final[dict[Fault, str]] = {
    "missing": "An access token is needed (`Authorization: Bearer …`); there is none.",
    "malformed": "An access token is needed (`Authorization: Bearer …`); this one was not accepted: "
    "it is not a token of this server.",
    "unknown-key": "The access token was not accepted: the key that signed it is none of this server.",
    "expired": "The access token was not accepted: its time is over.",
    "revoked": "The access token was not accepted: it was revoked.",
}

#: Tokens that are remembered; each takes about a kilobyte.
REMEMBERED: Final = 10_000

#: The longest token that is looked at; ours are far shorter.
LONGEST: Final = 16_384

#: Who runs the server, which is administration of a system, whatever they look at.
OPERATOR: Final = Identity("operator", "operator", "operator", scope="system/*.cruds", purpose="HSYSADMIN")


class TokenError(UnauthorizedError):
    """401: there is no good access token; `fault` says what is wrong with it."""

    def __init__(self, fault: Fault) -> None:
        self.fault: Fault = fault
        challenge = 'Bearer realm="FHIR"'
        if fault != "missing":  # RFC 6750 section 3.1: without a token there is nothing to say of it
            challenge += f', error="invalid_token", error_description="{DESCRIPTIONS[fault]}"'
        super().__init__(SENTENCES[fault], key="HS-AUTH", headers={"WWW-Authenticate": challenge})


DESCRIPTIONS: Final[dict[Fault, str]] = {
    "missing": "",
    "malformed": "The access token is malformed",
    "unknown-key": "The access token is signed with an unknown key",
    "expired": "The access token expired",
    "revoked": "The access token was revoked",
}


@dataclass(slots=True)
class _Verified:
    """A token whose signature and claims are in order."""

    identity: Identity
    until_s: float
    made_ms: int


class Bearer:
    """Tells who sends a request."""

    def __init__(
        self,
        keys: Keys,
        revocations: Revocations,
        issuer: str,
        operator: OperatorToken | None = None,
        purposes: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            purposes: by role, the purpose of use of a token that names none
        """
        self._keys = keys
        self._revocations = revocations
        self._issuer = issuer
        self._operator = operator
        self._purposes = purposes or {}
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    def identify(self, authorization: str | None) -> Identity:
        """Who the header identifies.

        Raises:
            TokenError: 401; there is no token, or it is no good one.
        """
        if not authorization:
            raise TokenError("missing")
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise TokenError("missing")
        # Not the token itself is kept: whoever reads the memory of this process later finds none.
        digest = sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = self._remembered.get(digest)
        if found is None:
            if self._operator is not None and self._operator.accepts(authorization):
                return OPERATOR
            found = self._verified(text)
            self._remembered[digest] = found
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        if found.until_s <= time.time():
            self._remembered.pop(digest, None)
            raise TokenError("expired")
        who = found.identity
        if self._revocations.meets(who.grant_id, who.token_id, who.subject, who.client_id, found.made_ms):
            raise TokenError("revoked")
        return who

    def stands(self, who: Identity) -> bool:
        """Whether a token that was good before still is: its time is not over, and nobody has revoked it."""
        if not who.token_id:
            return who is OPERATOR or who == OPERATOR
        if who.expires_us and who.expires_us <= time.time() * 1e6:
            return False
        made_ms = made_ms_of(who.token_id)
        return not self._revocations.meets(who.grant_id, who.token_id, who.subject, who.client_id, made_ms)

    def claims(self, text: str) -> dict[str, Any]:
        """What a good access token says.

        Raises:
            TokenError: it is no good one.
        """
        self.identify(f"Bearer {text}")
        return self._decoded(text)[0]

    def forget(self) -> None:
        """Verify each token anew, since the keys have changed."""
        self._remembered.clear()

    def _verified(self, text: str) -> _Verified:
        claims, until_s = self._decoded(text)
        try:
            identity = identity_of(claims, self._purposes)
            return _Verified(identity, min(float(claims["exp"]), until_s), made_ms_of(claims["jti"]))
        except (KeyError, ValueError, TypeError):
            raise TokenError("malformed") from None

    def _decoded(self, text: str) -> tuple[dict[str, Any], float]:
        """The claims of a token of ours, and how long its key is good."""
        if len(text) > LONGEST:
            raise TokenError("malformed")
        try:
            header = jws.extract_compact(text.encode("ascii")).headers()
            kid = header.get("kid")
            if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or not isinstance(kid, str):
                raise TokenError("malformed")
            known = self._keys.stored(kid, ALGORITHM)
            if known is None:
                raise TokenError("unknown-key")
            assert isinstance(known.key, ECKey)
            token = jwt.decode(text, known.key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise TokenError("malformed") from None
        claims = token.claims
        if claims.get("iss") != self._issuer or claims.get("aud") != self._issuer:
            raise TokenError("malformed")
        until = known.published_until
        return claims, until.timestamp() if until else float("inf")
