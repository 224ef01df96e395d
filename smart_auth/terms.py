"""What the operator has decided about signing in: addresses, times, and who may register apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Registration = Literal["off", "open", "token"]

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Terms:
    """Plain values that the composition root takes from the settings.

    Attributes:
        issuer: the FHIR base as clients see it; the issuer of all tokens, and the audience of access tokens
        access_token_s: how long access tokens of users are good
        backend_token_s: the same for clients that act for themselves; SMART asks for five minutes at most
        refresh_token_s: how long an app keeps its access when the user chose nothing else
        refresh_grace_s: how long a refresh token may be sent again by an app that did not get the answer
        code_s: how long a code is good
        request_s: how long a user may take to sign in, choose and consent
        pushed_s: how long a pushed authorization request is good
        registration: whether apps may register themselves: not at all, anybody's, or with an access token
        registration_token: the initial access token that `token` asks for; the operator's token does too
        resource_types: types that scopes may name; None: any
    """

    issuer: str
    access_token_s: int = 3600
    backend_token_s: int = 300
    refresh_token_s: int = 180 * DAY_S
    refresh_grace_s: int = 10
    code_s: int = 60
    request_s: int = 1800
    pushed_s: int = 90
    registration: Registration = "off"
    registration_token: str = ""
    resource_types: frozenset[str] | None = None

    @property
    def root(self) -> str:
        """The address beside the FHIR base, below which `/auth` lies."""
        return self.issuer.rstrip("/").removesuffix("/fhir")

    def at(self, path: str) -> str:
        """The address of a path that begins with `/auth`."""
        return self.root + path
