"""Codes for whoever lost their second factor: shown once, kept as digests, each good once."""

from __future__ import annotations

import re
import secrets

from smart_auth.tickets import digest_of

HOW_MANY = 10
#: Crockford's base32: no letter that looks like a digit. 16 characters are 80 bits: no salt is needed.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 16


def new_codes() -> tuple[list[str], list[str]]:
    """Codes for the person, as `7K2M-…`, and the digests that are stored."""
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(HOW_MANY)]
    return ["-".join(re.findall("....", code)) for code in codes], [digest_of(code) for code in codes]


def digest_of_code(text: str) -> str | None:
    """The digest of a code as somebody typed it; None when it cannot be one."""
    code = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    return digest_of(code) if len(code) == LENGTH and set(code) <= set(ALPHABET) else None
