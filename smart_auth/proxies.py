"""People who act for a patient: the patient asks them by mail, they accept, and either can end it.

The page answers the same whether the address has an account or not; the mail tells.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from smart_auth import people
from smart_auth.accounts import MOST_PATIENTS, EmailTakenError
from smart_auth.model import Account, Session
from smart_auth.parts import REFUSED, Parts, Visit
from smart_auth.registration import LinkError, Registrar
from smart_auth.throttle import MAILS_TO_ADDRESS, ThrottledError

OFFER = "proxy-offer"
#: Who may act for patients: somebody invited for it, or another patient.
ROLES = ("proxy", "patient")


class Proxies:
    """Who may act for whom: `Account.patients`."""

    def __init__(self, parts: Parts, registrar: Registrar) -> None:
        self._parts = parts
        self._registrar = registrar

    async def offer(self, account: Account, email: str, name: str, visit: Visit) -> None:
        """Ask somebody to act for a patient. Call it after the answer has been sent: how long it takes tells."""
        parts, patient = self._parts, account.fhir_user or ""
        try:
            await run_in_threadpool(parts.throttle.attempt, f"mail:{email.casefold()}", MAILS_TO_ADDRESS)
        except ThrottledError:
            return
        known = await run_in_threadpool(parts.accounts.row_of_email, email)
        if known is None:
            try:
                await self._registrar.invite(
                    email=email,
                    name=name,
                    role="proxy",
                    by=account.id,
                    visit=visit,
                    patients=(patient,),
                    inviter=account.name,
                    resource=people.related_person(people.name_of(name), email, patient),
                )
                return
            except EmailTakenError:  # just now, by another way
                known = await run_in_threadpool(parts.accounts.row_of_email, email)
        if known is None or known["state"] != "active" or known["role"] not in ROLES or known["_id"] == account.id:
            await parts.note(
                "account", "proxy cannot be asked", visit, outcome=REFUSED, account_id=account.id, patient=patient
            )
            return
        lasts = parts.rules.invitation_lasts
        data = {"account_id": known["_id"], "patient": patient, "name": account.name, "by": account.id}
        token = await run_in_threadpool(parts.tickets.issue, OFFER, data, lasts)
        letter = parts.letters.proxy_offer(known["email"], known["name"], token, lasts, account.name)
        await self._registrar.posted(letter, visit, known["_id"])
        await parts.note("account", f"asked {known['_id']} to act", visit, account_id=account.id, patient=patient)

    async def offered(self, session: Session, token: str) -> str:
        """The name of the patient who asks.

        Raises:
            LinkError: the link is not good, or is for another account.
        """
        data = await run_in_threadpool(self._parts.tickets.seen, OFFER, token)
        if data is None or data["account_id"] != session.account.id:
            raise LinkError
        return str(data["name"])

    async def accept(self, session: Session, token: str, visit: Visit) -> None:
        """
        Raises:
            LinkError: the link is not good, or they act for as many as one account may.
        """
        await self.offered(session, token)
        data = await run_in_threadpool(self._parts.tickets.take, OFFER, token)
        if data is None:
            raise LinkError
        account_id, patient = session.account.id, data["patient"]
        room = {f"patients.{MOST_PATIENTS - 1}": {"$exists": False}}
        changed = await run_in_threadpool(
            lambda: self._parts.accounts.change(account_id, where=room, addToSet={"patients": patient})
        )
        if changed is None:
            raise LinkError
        await self._parts.note("account", "acts for a patient", visit, account_id=account_id, patient=patient)

    async def end(self, patient: str, proxy_id: str, visit: Visit, *, by: str) -> bool:
        """End it at once, for the proxy's apps too; whether it was so."""
        changed = await run_in_threadpool(
            lambda: self._parts.accounts.change(proxy_id, where={"patients": patient}, pull={"patients": patient})
        )
        if changed is None:
            return False
        await self._parts.credentials_changed(proxy_id)
        await self._parts.note("account", f"proxy ended by {by}", visit, account_id=proxy_id, patient=patient)
        return True
