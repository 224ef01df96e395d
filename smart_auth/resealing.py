"""Everything that the vault has sealed, sealed again with its first key, so that the older ones can be thrown away.

Whoever writes a sealed value names its place here; a test looks for places that are not named.
"""

from __future__ import annotations

from typing import Any, Final

from smart_auth.app_state import STATES
from smart_auth.keys import KEYS
from smart_auth.store import AuthStore
from smart_auth.vault import Vault

#: Collections, and the members of their rows that are sealed.
SEALED: Final = ((KEYS, "sealed"), ("accounts", "totp.secret"), ("accounts", "totp_new"), (STATES, "sealed"))


def seal_again(store: AuthStore, vault: Vault) -> int:
    """Seal every stored secret with the vault's first key; how many there are. Blocking.

    Servers may run meanwhile: each value is replaced only if it is still the one that was read.

    Raises:
        VaultError: one was sealed with a key that is not here; those before it are done, and may be done again.
    """
    count = 0
    for collection, member in SEALED:
        rows = store.rows(collection)
        for row in rows.find({member: {"$exists": True}}, {member: 1}):
            sealed: Any = row
            for name in member.split("."):
                sealed = sealed[name]
            again = vault.sealed_again(bytes(sealed))
            count += rows.update_one({"_id": row["_id"], member: sealed}, {"$set": {member: again}}).modified_count
    return count
