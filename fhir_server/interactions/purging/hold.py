"""Legal holds: what must not be removed while a dispute or an inquiry goes on.

A hold is an active Flag about the patient with a code of our own. It holds for every removal of a patient.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model import codec
from fhir_server.model.errors import ConflictError
from fhir_server.storage.store import Store

SYSTEM: Final = "urn:healthsphere:hold"
CODE: Final = "legal-hold"


async def holds_on(store: Store, patient: str) -> list[dict[str, Any]]:
    """The Flags that hold a patient's record."""
    rows = await store.find("Flag", {"x.patient": patient, "d": None}, sort=[("_id", 1)], limit=1000)
    flags = [codec.decode(row["r"]) for row in rows]
    return [flag for flag in flags if flag["status"] == "active" and is_hold(flag)]


def is_hold(flag: dict[str, Any]) -> bool:
    codings = flag.get("code", {}).get("coding", []) if isinstance(flag.get("code"), dict) else []
    return any(isinstance(c, dict) and c.get("system") == SYSTEM and c.get("code") == CODE for c in codings)


async def require_free(store: Store, patient: str) -> None:
    """Nothing holds a patient's record.

    Raises:
        ConflictError: 409; a legal hold does.
    """
    if holds := await holds_on(store, patient):
        raise ConflictError(
            f"A legal hold is on this record (Flag/{holds[0]['id']}): nothing of it can be removed until it is ended.",
            key="HS-PURGE-HOLD",
        )
