"""Somebody who is signed in, as the resources know them: what pickers show passes the policies that apps pass."""

from __future__ import annotations

from typing import Final

from fhir_server.model.access import Identity
from smart_auth.model import Account
from smart_auth.ports import PatientCard, Records
from smart_auth.scopes import scopes_of

#: What the pages of launches look at; no app has that name.
PAGES: Final = "healthsphere-pages"
SCOPE: Final = "user/Patient.rs user/Encounter.rs"
SCOPES: Final = scopes_of(SCOPE)


def viewer_of(account: Account) -> Identity:
    """The identity by which pages look at patients and encounters for this person."""
    return Identity(
        subject=account.id,
        client_id=PAGES,
        role=account.role,
        scopes=SCOPES,
        scope=SCOPE,
        fhir_user=account.fhir_user,
        organization=account.organization,
        patients=account.patients,
    )


async def patients_of(records: Records, account: Account, text: str, limit: int) -> list[PatientCard]:
    """Whom the user can choose: those for whom they act; of others, those whom they may see, looked for by a text."""
    viewer, own = viewer_of(account), account.acts_for
    if own is None:
        return await records.patients(viewer, text, limit)
    cards = [await records.patient(viewer, reference) for reference in own[:limit]]
    return [card for card in cards if card is not None]


async def visible_patient(records: Records, account: Account, reference: str) -> PatientCard | None:
    """A patient whom the user may choose; None for anybody else, who might as well not exist."""
    own = account.acts_for
    if not reference.startswith("Patient/") or (own is not None and reference not in own):
        return None
    return await records.patient(viewer_of(account), reference)
