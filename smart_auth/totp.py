"""Codes of an authenticator app: one every 30 seconds, each good once.

Spec: RFC 6238, https://github.com/google/google-authenticator/wiki/Key-Uri-Format
"""

from __future__ import annotations

import hmac
import re
import time

import pyotp
import segno

STEP_S = 30
#: Clocks of telephones differ: one step before and after is good, too.
WINDOW = 1


def new_secret() -> str:
    """160 bits in base32 (RFC 4226 recommends 160)."""
    return pyotp.random_base32(32)


def address_of(secret: str, email: str, issuer: str) -> str:
    """The `otpauth:` address that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer)


def picture_of(address: str) -> str:
    """The QR code as SVG, to stand inside a page."""
    return segno.make(address, error="m").svg_inline(scale=5, border=2, title="QR code for your authenticator app")


def step_of(secret: str, code: str, last_step: int, moment_s: float | None = None) -> int | None:
    """The time step of a code, if it is right and later than the last one used; None when it is not.

    The caller stores the step in one atomic update, so that the code is not good a second time (RFC 6238, 5.2).
    """
    code = re.sub(r"\s", "", code)
    if not re.fullmatch(r"[0-9]{6}", code):
        return None
    totp = pyotp.TOTP(secret)
    present = int(time.time() if moment_s is None else moment_s) // STEP_S
    found = None
    for step in range(present - WINDOW, present + WINDOW + 1):
        if hmac.compare_digest(totp.at(step * STEP_S), code) and step > last_step:
            found = step
    return found
