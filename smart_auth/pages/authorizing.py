"""What the pages of an authorization share: the request under way, the app that asks, and the ways out.

They are shown while an app waits at the other end, so each of them lets the user refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.answers import sent_to
from smart_auth.flow import Flow, FlowError
from smart_auth.model import AuthorizationRequest, Client, Session
from smart_auth.pages.page import Handler, PageError, Pages
from smart_auth.ports import Records


@dataclass(frozen=True, slots=True)
class AppCard:
    """An app as people see it.

    Attributes:
        logo: only from this origin: a picture from elsewhere would tell that place who looks at which app
        initial: stands in for the logo
        site: the host of its website
        checked: whether somebody here has looked at it: an app that registered itself may give any name
    """

    client_id: str
    name: str
    description: str
    publisher: str
    logo: str
    initial: str
    website: str
    site: str
    policy_uri: str
    checked: bool


def card_of(client: Client, origin: str) -> AppCard:
    """An app, shown."""
    own = client.logo_uri.startswith(("data:image/", f"{origin}/"))
    return AppCard(
        client_id=client.client_id,
        name=client.name,
        description=client.description,
        publisher=client.publisher,
        logo=client.logo_uri if own else "",
        initial=client.name.strip()[:1].upper(),
        website=client.client_uri,
        site=urlsplit(client.client_uri).hostname or "",
        policy_uri=client.policy_uri,
        checked=client.listed or client.trusted,
    )


@dataclass(frozen=True, slots=True)
class Underway:
    """One authorization, as the page of a request sees it."""

    session: Session
    request: AuthorizationRequest
    client: Client


class AuthorizingPages:
    """The base of the pages that an authorization leads through."""

    def __init__(self, pages: Pages, flow: Flow, records: Records) -> None:
        self._pages = pages
        self._flow = flow
        self._records = records

    def _route(self, path: str, handler: Handler, *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except FlowError as error:
                raise PageError(400, "This did not work", str(error)) from error

        return self._pages.route(path, endpoint, *methods)

    async def _underway(self, request: Request, request_id: str | None = None) -> Underway:
        """The authorization that the page is about.

        Raises:
            Elsewhere: nobody is signed in.
            FlowError: it is over, or another session's.
        """
        session = await self._pages.signed_in(request)
        there = await self._flow.request(request_id or request.query_params.get("request", ""), session)
        return Underway(session, there, await self._flow.client(there))

    async def _answered(self, request: Request, most: int = 200) -> tuple[Underway, dict[str, str]]:
        """The authorization that a form is about, and its fields.

        Raises:
            Elsewhere, PageError, FlowError
        """
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session, most=most)
        return await self._underway(request, fields.get("request", "")), fields

    async def _next(self, there: Underway) -> Response:
        return sent_to(await self._flow.next(there.request.id, there.session))

    async def _denied(self, there: Underway) -> Response:
        return sent_to(await self._flow.deny(there.request.id, there.session))

    def _card(self, client: Client) -> AppCard:
        return card_of(client, self._pages.parts.origin)
