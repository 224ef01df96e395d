"""The pages on which a user chooses for an app: the patient, and the encounter.

What they show and take is what the user may see; the app learns of nothing else.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#standalone-apps
"""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.flow import CHOOSE_ENCOUNTER, CHOOSE_PATIENT
from smart_auth.pages.authorizing import AuthorizingPages, Underway
from smart_auth.pages.page import PageError
from smart_auth.viewer import patients_of, viewer_of, visible_patient

#: Cards on one page; who is not among them is looked for.
MOST = 25

LONGEST_TEXT = 100


class ChoosingPages(AuthorizingPages):
    """`/auth/choose-patient`, `/auth/choose-encounter`."""

    def routes(self) -> list[Route]:
        return [
            self._route(CHOOSE_PATIENT, self.show_patients),
            self._route(CHOOSE_PATIENT, self.choose_patient, "POST"),
            self._route(CHOOSE_ENCOUNTER, self.show_encounters),
            self._route(CHOOSE_ENCOUNTER, self.choose_encounter, "POST"),
        ]

    async def show_patients(self, request: Request) -> Response:
        return await self._patients(request, await self._underway(request))

    async def _patients(self, request: Request, there: Underway, *, status: int = 200, error: str = "") -> Response:
        text = request.query_params.get("text", "").strip()[:LONGEST_TEXT]
        account = there.session.account
        cards = await patients_of(self._records, account, text, MOST + 1)
        return self._pages.show(
            request,
            "choose_patient.html",
            session=there.session,
            status=status,
            error=error,
            form_action=None,
            app=self._card(there.client),
            request_id=there.request.id,
            text=text,
            searches=account.acts_for is None,
            patients=cards[:MOST],
            more=len(cards) > MOST,
        )

    async def choose_patient(self, request: Request) -> Response:
        there, fields = await self._answered(request)
        if fields.get("action") == "deny":
            return await self._denied(there)
        card = await visible_patient(self._records, there.session.account, fields.get("patient", ""))
        if card is None:
            return await self._patients(request, there, status=400, error="Choose one of these patients.")
        context = replace(there.request.context, patient=card.reference, encounter=None)
        await self._flow.choose(there.request.id, there.session, context)
        return await self._next(there)

    async def show_encounters(self, request: Request) -> Response:
        return await self._encounters(request, await self._underway(request))

    async def _encounters(self, request: Request, there: Underway, *, status: int = 200, error: str = "") -> Response:
        patient = there.request.context.patient
        if patient is None:  # an app that asks for an encounter alone: it is somebody's
            return self._pages.go(f"{CHOOSE_PATIENT}?request={there.request.id}")
        viewer = viewer_of(there.session.account)
        cards = await self._records.encounters(viewer, patient, MOST + 1)
        return self._pages.show(
            request,
            "choose_encounter.html",
            session=there.session,
            status=status,
            error=error,
            form_action=None,
            app=self._card(there.client),
            request_id=there.request.id,
            patient=await self._records.patient(viewer, patient),
            encounters=cards[:MOST],
            more=len(cards) > MOST,
        )

    async def choose_encounter(self, request: Request) -> Response:
        there, fields = await self._answered(request)
        action, patient = fields.get("action", ""), there.request.context.patient
        if action == "deny":
            return await self._denied(there)
        if action == "none":
            await self._flow.without_encounter(there.request.id, there.session)
            return await self._next(there)
        if patient is None:
            raise PageError(400, "This did not work", "Choose the patient first.")
        viewer = viewer_of(there.session.account)
        card = await self._records.encounter(viewer, patient, fields.get("encounter", ""))
        if card is None:
            return await self._encounters(request, there, status=400, error="Choose one of these visits.")
        await self._flow.choose(
            there.request.id, there.session, replace(there.request.context, encounter=card.reference)
        )
        return await self._next(there)
