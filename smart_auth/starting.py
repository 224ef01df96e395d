"""Starting an app from here, as an EHR does: who may start which app, with whom in context.

Whoever starts an app gives it no more than a name of a patient: what the app then sees, its scopes and the user's own
rights decide.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from fhir_server.model.errors import InvalidError, NotFoundError
from fhir_server.model.happening import Happening, Trail
from smart_auth.clients import Clients
from smart_auth.launches import LaunchTokens, address_of, can_be_launched
from smart_auth.model import Account, Client, LaunchContext
from smart_auth.parts import Visit
from smart_auth.ports import Records
from smart_auth.terms import Terms
from smart_auth.viewer import viewer_of, visible_patient


@dataclass(frozen=True, slots=True)
class Started:
    """A launch that is ready: the token, and the address that begins it."""

    token: str
    address: str


class Starting:
    """Makes launches."""

    def __init__(self, terms: Terms, clients: Clients, tokens: LaunchTokens, records: Records, trail: Trail) -> None:
        self.terms = terms
        self._clients = clients
        self._tokens = tokens
        self._records = records
        self._trail = trail

    async def apps(self) -> list[Client]:
        """The apps of the gallery, by name."""
        found = await run_in_threadpool(self._clients.all)
        return sorted(
            (client for client in found if can_be_launched(client) and client.listed),
            key=lambda client: client.name.casefold(),
        )

    async def start(
        self, account: Account, client_id: str, context: LaunchContext, visit: Visit, *, by: str = ""
    ) -> Started:
        """Let an app be opened by this user, with this patient and this encounter.

        Args:
            account: whose browser goes on with it
            client_id: which app
            context: with what
            visit: where the request came from
            by: the client that asked for it, when it was none of our pages

        Raises:
            NotFoundError: there is no such app, or nobody whom the user may see.
            InvalidError: an encounter without its patient.
        """
        client = await run_in_threadpool(self._clients.active, client_id)
        if client is None or not can_be_launched(client):
            raise NotFoundError(
                "There is no app of that id that can be launched.", expression="client_id", key="HS-LAUNCH-APP"
            )
        await self._check(account, context)
        token = await run_in_threadpool(self._tokens.make, client.client_id, account.id, context)
        await self._trail.happened(
            Happening(
                "launch",
                account_id=account.id,
                client_id=client.client_id,
                fhir_user=account.fhir_user or "",
                patient=context.patient or "",
                address=visit.address,
                request_id=visit.request_id,
                detail=f"launched through {by}" if by else "launched",
            )
        )
        return Started(token, address_of(client, self.terms.issuer, token))

    async def _check(self, account: Account, context: LaunchContext) -> None:
        """That the user may see whom the app is opened with."""
        if context.patient is None:
            if context.encounter is not None:
                raise InvalidError(
                    "An encounter is launched with its patient.", expression="encounter", key="HS-LAUNCH-CONTEXT"
                )
            return
        if await visible_patient(self._records, account, context.patient) is None:
            raise NotFoundError("There is no such patient.", expression="patient", key="HS-LAUNCH-PATIENT")
        if context.encounter is not None:
            found = await self._records.encounter(viewer_of(account), context.patient, context.encounter)
            if found is None:
                raise NotFoundError(
                    "The patient has no such encounter.", expression="encounter", key="HS-LAUNCH-ENCOUNTER"
                )
