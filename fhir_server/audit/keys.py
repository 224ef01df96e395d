"""The keys that seal the trail: a file beside the database, readable by the server alone.

They are secrets of their own, not those that encrypt: who may verify the trail need not be able to open secrets.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from fhir_server.storage.setup import SetupError

#: A key shorter than this could be guessed.
LEAST_CHARACTERS = 32


def load_or_create_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; a new one is made, with mode 0600, when there is no such file.

    Several processes may call it at once.

    Raises:
        SetupError: the file cannot be read or written, or holds no key that is long enough.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(48) + "\n")
                os.link(draft, path)
            except FileExistsError:
                pass  # another process was first; its key is the one
            finally:
                draft.unlink(missing_ok=True)
        keys = tuple(path.read_text("ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"The key file of the audit trail, {path}, cannot be used: correct the rights of the folder."
        ) from error
    if not keys or any(len(key) < LEAST_CHARACTERS for key in keys):
        raise SetupError(
            f"The key file of the audit trail, {path}, holds no key of at least {LEAST_CHARACTERS} characters: "
            "restore it from your backup."
        )
    return keys


def seal_keys(keys: tuple[str, ...]) -> tuple[bytes, ...]:
    """The keys as bytes that seal."""
    return tuple(hashlib.sha256(b"healthsphere-audit-seal" + key.encode()).digest() for key in keys)
