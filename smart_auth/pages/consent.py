"""The consent page: what an app wants, in plain words, and which of it the user allows for how long.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/best-practices.html,
https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.model.access import TREATMENT
from smart_auth import scopes
from smart_auth.consent_choices import Choice, ChoiceError, Group, choices_of, granted_by
from smart_auth.flow import CONSENT, Flow
from smart_auth.pages.authorizing import AuthorizingPages, Underway
from smart_auth.pages.page import Pages
from smart_auth.ports import Records
from smart_auth.terms import DAY_S, Terms
from smart_auth.viewer import viewer_of

#: How long an app may keep its access, in words.
TIMES: Final = (
    (3600, "1 hour"),
    (DAY_S, "1 day"),
    (7 * DAY_S, "1 week"),
    (30 * DAY_S, "30 days"),
    (90 * DAY_S, "3 months"),
    (180 * DAY_S, "6 months"),
    (365 * DAY_S, "1 year"),
)

#: What clinicians can want an app for (http://terminology.hl7.org/CodeSystem/v3-ActReason). Breaking the glass is none
#: of these: it has an operation of its own, with a time limit and a review.
PURPOSES: Final = {
    TREATMENT: "Treatment",
    "COC": "Coordination of care",
    "HPAYMT": "Payment",
    "HOPERAT": "Running the organization",
    "HRESCH": "Research",
}

TITLES: Final[Mapping[Group, str]] = {
    "you": "Who you are",
    "context": "What it works with",
    "records": "Health information",
    "administration": "Administration",
    "time": "Time",
}

#: A form can have a field for each kind of information of each scope.
MOST_FIELDS: Final = 2000


class ConsentPages(AuthorizingPages):
    """`/auth/consent`."""

    def __init__(self, pages: Pages, flow: Flow, records: Records, terms: Terms) -> None:
        super().__init__(pages, flow, records)
        self._terms = terms

    def routes(self) -> list[Route]:
        return [self._route(CONSENT, self.show), self._route(CONSENT, self.answer, "POST")]

    async def show(self, request: Request) -> Response:
        return await self._page(request, await self._underway(request))

    async def _page(
        self, request: Request, there: Underway, *, error: str = "", fields: dict[str, str] | None = None
    ) -> Response:
        asked, account = there.request, there.session.account
        choices = choices_of(asked.scope, self._terms.resource_types)
        patient = asked.context.patient
        return self._pages.show(
            request,
            "consent.html",
            session=there.session,
            status=400 if error else 200,
            error=error,
            form_action=None,
            app=self._card(there.client),
            request_id=asked.id,
            returns_to=returns_to(asked.redirect_uri),
            patient=await self._records.patient(viewer_of(account), patient) if patient else None,
            own=patient is not None and patient == account.fhir_user,
            groups=[(title, of_group) for group, title in TITLES.items() if (of_group := _of(choices, group))],
            # The first time everything is ticked that was asked for, and nothing is narrowed; but who lets an app
            # manage the accounts of others shall mean it.
            ticked={choice.field for choice in choices if choice.group != "administration"}
            if fields is None
            else set(fields),
            values=fields or {},
            offline=scopes.has(asked.scope, scopes.OFFLINE),
            online=scopes.has(asked.scope, scopes.ONLINE),
            times=times_up_to(self._terms.refresh_token_s),
            minutes=self._terms.access_token_s // 60,
            purposes=PURPOSES if account.role in ("practitioner", "pharmacy") and _for_records(choices) else {},
            can_remember="consent" not in asked.prompt.split(),
        )

    async def answer(self, request: Request) -> Response:
        there, fields = await self._answered(request, MOST_FIELDS)
        if fields.get("action") != "allow":
            return await self._denied(there)
        asked = there.request
        try:
            granted = granted_by(choices_of(asked.scope, self._terms.resource_types), fields)
        except ChoiceError as error:
            return await self._page(request, there, error=str(error), fields=fields)
        purpose = fields.get("purpose", TREATMENT)
        if purpose in PURPOSES and there.session.account.role in ("practitioner", "pharmacy"):
            await self._flow.purpose(asked.id, there.session, purpose, " ".join(fields.get("reason", "").split()))
        await self._flow.allow(
            asked.id,
            there.session,
            granted,
            _seconds(fields.get("lasts", "")),
            remember=fields.get("remember") == "yes",
        )
        return await self._next(there)


def _of(choices: list[Choice], group: Group) -> list[Choice]:
    return [choice for choice in choices if choice.group == group]


def _for_records(choices: list[Choice]) -> bool:
    return any(choice.group == "records" for choice in choices)


def _seconds(text: str) -> int | None:
    """How long the app may keep its access; None: as the server's settings say."""
    return next((seconds for seconds, _ in TIMES if str(seconds) == text), None)


def times_up_to(longest_s: int) -> list[dict[str, Any]]:
    """The times to choose from; the longest is what apps get when nobody chooses."""
    times = [(seconds, words) for seconds, words in TIMES if seconds < longest_s]
    last = next((words for seconds, words in TIMES if seconds == longest_s), f"{longest_s // DAY_S} days")
    return [{"seconds": str(seconds), "words": words} for seconds, words in times] + [{"seconds": "", "words": last}]


def returns_to(redirect_uri: str) -> str:
    """Where the user goes afterwards, in words."""
    parts = urlsplit(redirect_uri)
    if parts.scheme in ("http", "https"):
        return parts.netloc
    return "an app on this device"
