"""The server's signing keys: made by itself, kept sealed, published, and replaced in good time.

RSA (RS256) signs id tokens, which every OpenID client must be able to verify; an elliptic curve (ES256) signs access
tokens, which are sent with every request and are short that way. A new key is published some time before it signs, so
that nobody who keeps the key set for a while meets a key that they do not know; an old one stays published until the
last token that it signed has ended.

Spec: RFC 7517, RFC 7518, https://openid.net/specs/openid-connect-core-1_0.html#RotateSigningKeys
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from joserfc.jwk import ECKey, RSAKey
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from smart_auth.rows import now
from smart_auth.store import AuthStore, Row
from smart_auth.vault import Vault

KEYS: Final = "keys"

Algorithm = Literal["RS256", "ES256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "ES256")

SigningKey = RSAKey | ECKey

#: How long a key set may be kept by those who fetch it.
PUBLISHED_MAX_AGE_S: Final = 300

#: How long before it signs a new key is published.
LEAD_S: Final = 2 * PUBLISHED_MAX_AGE_S

#: Every worker has read a new key after this; the shortest lead.
SPREAD_S: Final = 3

#: The longest time for which any token is good; a key is published that much longer than it signs.
LONGEST_TOKEN_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key, and its times."""

    kid: str
    algorithm: Algorithm
    generation: int
    key: SigningKey
    created_at: datetime
    signs_from: datetime
    published_until: datetime | None

    def public(self) -> dict[str, Any]:
        """As a JWK."""
        return {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": self.algorithm}


class Keys:
    """The keys in this process: read when the server opens, and again by `refresh`."""

    def __init__(self, store: AuthStore, vault: Vault, *, rotate_days: int = 90) -> None:
        self._store = store
        self._vault = vault
        self._rotate_after = timedelta(days=rotate_days)
        self._stamp: tuple[Any, ...] = ()
        self._known: dict[str, StoredKey] = {}

    def open(self) -> None:
        """Read the keys; make the first ones where there are none."""
        self._store.ensure(KEYS, [IndexModel([("algorithm", 1), ("generation", 1)], unique=True)])
        self.refresh()
        for algorithm in ALGORITHMS:
            if not self._of(algorithm):
                self._succeed(algorithm, lead_s=0)

    def refresh(self) -> bool:
        """Read what has changed, and tell whether something has; only new keys are decrypted."""
        rows = list(self._store.rows(KEYS).find({}, {"sealed": 0}))
        stamp = tuple(sorted((row["_id"], str(row["published_until"])) for row in rows))
        if stamp == self._stamp:
            return False
        known = {}
        for row in rows:
            there = self._known.get(row["_id"])
            key = there.key if there else self._opened(self._store.rows(KEYS).find_one({"_id": row["_id"]}))
            if key is not None:
                known[row["_id"]] = StoredKey(
                    row["_id"],
                    row["algorithm"],
                    row["generation"],
                    key,
                    row["created_at"],
                    row["signs_from"],
                    row["published_until"],
                )
        self._known, self._stamp = known, stamp
        return True

    def _opened(self, row: Row | None) -> SigningKey | None:
        if row is None:
            return None
        data = json.loads(self._vault.opened(row["sealed"]))
        return RSAKey.import_key(data) if row["algorithm"] == "RS256" else ECKey.import_key(data)

    def _of(self, algorithm: str) -> list[StoredKey]:
        """The keys of an algorithm that are good, the newest first."""
        moment = now()
        return sorted(
            (
                key
                for key in self._known.values()
                if key.algorithm == algorithm and (key.published_until is None or key.published_until > moment)
            ),
            key=lambda key: -key.generation,
        )

    def signing(self, algorithm: Algorithm) -> StoredKey:
        """The key that signs now: the newest whose time has come."""
        moment, good = now(), self._of(algorithm)
        return next((key for key in good if key.signs_from <= moment), good[-1])

    def stored(self, kid: str, algorithm: Algorithm) -> StoredKey | None:
        """The key of that name, while it is published."""
        found = self._known.get(kid)
        if found is None or found.algorithm != algorithm:
            return None
        return None if found.published_until is not None and found.published_until <= now() else found

    def published(self) -> dict[str, Any]:
        """The key set (JWKS) of all keys that sign, will sign, or have signed tokens that may still be good."""
        return {"keys": [key.public() for algorithm in ALGORITHMS for key in self._of(algorithm)]}

    def all(self) -> list[StoredKey]:
        """Every stored key."""
        return sorted(self._known.values(), key=lambda key: (key.algorithm, key.generation))

    def rotate(self, algorithm: Algorithm, *, lead_s: int = LEAD_S, drop_older: bool = False) -> None:
        """Make a new key; the ones before it stop signing when it starts, and stay published for a while.

        Args:
            algorithm: of which key
            lead_s: how long it is published before it signs
            drop_older: the older keys are known to somebody else: what they signed is no longer good
        """
        self.refresh()
        self._succeed(algorithm, lead_s, drop_older)

    def _succeed(self, algorithm: Algorithm, lead_s: int, drop_older: bool = False) -> None:
        """Make the key after those that this worker knows; of several workers that do so at once, one makes it."""
        before = [key for key in self._known.values() if key.algorithm == algorithm]
        generation = 1 + max((key.generation for key in before), default=0)
        moment = now()
        signs_from = moment + timedelta(seconds=lead_s)
        key = _generated(algorithm)
        row = {
            "_id": f"{algorithm.lower()}-{generation}-{key.thumbprint()[:8]}",
            "algorithm": algorithm,
            "generation": generation,
            "sealed": self._vault.sealed(json.dumps(key.as_dict(private=True))),
            "created_at": moment,
            "signs_from": signs_from,
            "published_until": None,
        }
        try:
            self._store.rows(KEYS).insert_one(row)
        except DuplicateKeyError:  # another worker was first; its key is the one
            self.refresh()
            return
        until = signs_from if drop_older else signs_from + timedelta(seconds=LONGEST_TOKEN_S)
        older = {"algorithm": algorithm, "generation": {"$lt": generation}}
        self._store.rows(KEYS).update_many(
            {**older, "$or": [{"published_until": None}, {"published_until": {"$gt": until}}]},
            {"$set": {"published_until": until}},
        )
        self.refresh()

    def rotate_when_due(self) -> None:
        """Replace what has signed for long enough, and remove what is no longer published."""
        moment = now()
        for algorithm in ALGORITHMS:
            good = self._of(algorithm)
            if good and good[0].created_at + self._rotate_after <= moment:
                self._succeed(algorithm, LEAD_S)
        self._store.rows(KEYS).delete_many({"published_until": {"$lt": moment - timedelta(days=1)}})


def _generated(algorithm: Algorithm) -> SigningKey:
    return (
        RSAKey.generate_key(2048, private=True) if algorithm == "RS256" else ECKey.generate_key("P-256", private=True)
    )
