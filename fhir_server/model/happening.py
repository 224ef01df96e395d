"""What the audit trail records besides requests: sign-ins, tokens, changes of accounts, and what timers and jobs do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that the audit trail records.

    Attributes:
        kind: `sign-in`, `sign-out`, `sign-in-refused`, `token`, `token-refused`, `token-revoked`, `account`, `client`,
            `keys`, `consent`, `launch`, `break-glass-start`, `break-glass-stop`, `erasure` …
        outcome: 0 done, 4 refused, 8 failed (http://hl7.org/fhir/audit-event-outcome)
        account_id, client_id: who
        patient: about whom, `Patient/1`; empty where nobody is to be named
        detail: what happened, in a few words, without secrets and without health data
    """

    kind: str
    outcome: int = 0
    account_id: str = ""
    client_id: str = ""
    fhir_user: str = ""
    patient: str = ""
    address: str = ""
    request_id: str = ""
    detail: str = ""


class Trail(Protocol):
    """Where happenings go; returns when it is stored durably, as part of the hash chain."""

    async def happened(self, happening: Happening) -> None: ...
