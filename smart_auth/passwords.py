"""Passwords: argon2id, hashed again when the parameters were raised, and judged by how easily they are guessed.

No rules of composition and no changing by the calendar: they make passwords worse.

Spec: https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver, RFC 9106
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

SHORTEST = 10
LONGEST = 256
#: Of zxcvbn's 0 to 4: "safely unguessable: moderate protection from offline slow-hash scenario".
LEAST_SCORE = 3
ZXCVBN_READS = 72
#: Each hash takes 64 MiB for some tens of milliseconds; more at once would only fill the memory.
AT_ONCE = 4


def faults_of(password: str, *known: str) -> list[str]:
    """What is wrong with a new password, in sentences; nothing when it is good.

    Args:
        known: what others know of the person: address, name
    """
    password = _normal(password)
    if len(password) < SHORTEST:
        return [f"Use at least {SHORTEST} characters. Several words in a row are easy to remember."]
    if len(password) > LONGEST:
        return [f"Use at most {LONGEST} characters."]
    words = {word for text in known for word in (text, *re.split(r"[\s@._+-]+", text)) if len(word) >= 3}
    lowered = password.casefold()
    whole = {text.casefold() for text in known if text} | {text.partition("@")[0].casefold() for text in known if text}
    if lowered in whole:
        return ["Do not use your name or e-mail address."]
    # What others know of the person adds nothing: `idaberg1980` is worth as much as `1980`.
    rest = lowered
    for word in sorted({word.casefold() for word in words} | {"healthsphere"}, key=len, reverse=True):
        rest = rest.replace(word, "")
    if not rest.strip():
        return ["Do not use your name or e-mail address."]
    judged = zxcvbn(rest[:ZXCVBN_READS], max_length=ZXCVBN_READS)
    if judged["score"] >= LEAST_SCORE:
        return []
    advice = [judged["feedback"]["warning"], *judged["feedback"]["suggestions"]]
    return ["This password is easy to guess.", *(text.rstrip(".") + "." for text in advice if text)]


class Passwords:
    """Hashes and checks passwords, a few at a time, in threads."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._limiter = CapacityLimiter(AT_ONCE)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await to_thread.run_sync(self._hasher.hash, _normal(password), limiter=self._limiter)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; takes as long when there is none, so that nobody learns which accounts exist."""
        right = await to_thread.run_sync(self._verify, stored or self._nobodys, password, limiter=self._limiter)
        return right and bool(stored)

    def is_outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than a new one would be."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        if len(password) > LONGEST:
            password = ""  # never a password of ours; no reason to read megabytes
        try:
            return self._hasher.verify(stored, _normal(password))
        except (VerificationError, InvalidHashError):
            return False


def _normal(password: str) -> str:
    """One form of characters that keyboards make in several (NIST SP 800-63B asks for it)."""
    return unicodedata.normalize("NFKC", password)
