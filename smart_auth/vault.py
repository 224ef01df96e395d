"""Secrets that must be read again (signing keys, TOTP seeds, a provider's client secret), encrypted at rest.

The key that encrypts them is not in the database: it is a file that only the server can read, or comes from a secret
store through a setting. Whoever has the database alone has nothing.

Spec: https://github.com/fernet/spec (AES-128-CBC with HMAC-SHA256)
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

CLOSED: Final = "A stored secret cannot be opened: its vault key is not the one of this server."


class VaultError(Exception):
    """The vault's key cannot be used; the text is one line that says what to do."""


class Vault:
    """Encrypts and decrypts short texts. The first key encrypts; all keys decrypt, so that a key can be replaced."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise VaultError(
                "A vault key is not 32 bytes in URL-safe base64: make one with `healthsphere keys new-vault-key`."
            ) from error

    def sealed(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def sealed_again(self, sealed: bytes) -> bytes:
        """The same text, sealed with the first key; the moment that it was sealed at stays.

        Raises:
            VaultError: it was sealed with a key that is not here, or was changed.
        """
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise VaultError(CLOSED) from None

    def opened(self, sealed: bytes) -> str:
        """The text.

        Raises:
            VaultError: it was sealed with a key that is not here, or was changed.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise VaultError(CLOSED) from None


def load_or_create(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; a new one is made, with mode 0600, when there is no such file.

    Several processes may call it at once.

    Raises:
        VaultError: the file cannot be read or written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(Fernet.generate_key() + b"\n")
                if not path.exists():
                    os.link(draft, path)
            except FileExistsError:  # another process was first; its key is the one
                return load_or_create(path)
            finally:
                draft.unlink(missing_ok=True)
        keys = tuple(path.read_text("ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"The vault key file {path} cannot be used: correct the rights of the folder.") from error
    if not keys:
        raise VaultError(f"The vault key file {path} is empty: restore it from your backup.")
    return keys
