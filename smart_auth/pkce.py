"""Proof Key for Code Exchange: who redeems a code is who asked for it. S256 for every client, and nothing less.

Spec: RFC 7636, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#considerations-for-pkce-support
"""

from __future__ import annotations

import re
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7636 import CodeChallenge

METHOD: Final = "S256"

#: The digest of SHA-256 in base64url.
CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Pkce(CodeChallenge):  # type: ignore[misc]  # Authlib ships no types
    """Authlib's extension, with S256 as the one method, for confidential clients too."""

    DEFAULT_CODE_CHALLENGE_METHOD = METHOD
    SUPPORTED_CODE_CHALLENGE_METHOD: Final = [METHOD]

    def __init__(self) -> None:
        super().__init__(required=True)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge"):
            raise InvalidRequestError("A code_challenge is needed (PKCE)")
        if data.get("code_challenge_method") != METHOD:
            raise InvalidRequestError("The code_challenge_method must be S256")
        if not CHALLENGE.fullmatch(data["code_challenge"]):
            raise InvalidRequestError("The code_challenge is not one of S256")

    def get_authorization_code_challenge_method(self, authorization_code: Any) -> str:
        return METHOD
