"""Pull tokens and secrets: made at random, kept as digests, compared in constant time.

A token is 128 bits of chance, so a plain digest of it says nothing to whoever reads the database.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

BYTES = 16


def new_token() -> str:
    return secrets.token_urlsafe(BYTES)


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_it(token: str | None, digest: str | None) -> bool:
    """Whether a token is the one of a digest; nothing is never it."""
    return token is not None and digest is not None and hmac.compare_digest(digest_of(token), digest)
