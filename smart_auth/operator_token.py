"""The operator's token: one bearer token for whoever runs the server, kept in a file that only they can read.

Spec: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

SHORTEST_TOKEN = 20


class TokenFileError(Exception):
    """The token's file cannot be used; the text is one line that says what to do."""


def load_or_create(path: Path) -> str:
    """The token in `path`; made, with mode 0600, when there is no such file. Several processes may call it at once.

    Raises:
        TokenFileError: the file cannot be read or written, or holds no usable token.
    """
    try:
        if not path.exists():
            _create(path)
        path.chmod(0o600)
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not ASCII text"
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = f"{path.parent} is no folder"
        raise TokenFileError(
            f"The access token file {path} cannot be used ({reason}): "
            "correct HEALTHSPHERE_ACCESS_TOKEN_FILE or the rights of the folder."
        ) from error
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise TokenFileError(
            f"The access token file {path} holds no token of {SHORTEST_TOKEN} or more characters: "
            "remove it, and the next start makes a new one."
        )
    return token


def _create(path: Path) -> None:
    """Write whole, then give the name: a process that comes at the same moment reads a whole token or none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first; its token is the one
    finally:
        draft.unlink(missing_ok=True)


class OperatorToken:
    """Tells whether an `Authorization` header carries the operator's token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def accepts(self, authorization: str | None) -> bool:
        """Whether `authorization` is `Bearer <token>`; the time it takes tells nothing about the token."""
        scheme, _, credentials = (authorization or "").partition(" ")
        presented = credentials.strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(presented, self._token) and scheme.lower() == "bearer"
