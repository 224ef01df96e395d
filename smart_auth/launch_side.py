"""Launches, consent and apps, put together: give it the server and the accounts, take its routes."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from smart_auth.account_side import AccountSide
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.launches import LaunchTokens
from smart_auth.pages.choosing import ChoosingPages
from smart_auth.pages.consent import ConsentPages
from smart_auth.pages.launching import LaunchPages
from smart_auth.ports import Records, Trail
from smart_auth.starting import Starting


class LaunchSide:
    """The pages between an app's request and its code, and those from which apps are opened."""

    def __init__(
        self,
        server: AuthorizationServer,
        accounts: AccountSide,
        tokens: LaunchTokens,
        records: Records,
        trail: Trail,
    ) -> None:
        """
        Args:
            server: the authorization server, which was given the same `tokens` as its `launches`
            accounts: who signs in, and the pages' looks
            tokens: the launch tokens that are out
            records: the patients and encounters that users may see
            trail: where happenings go
        """
        self._server = server
        self._accounts = accounts
        self._tokens = tokens
        self._records = records
        self._starting = Starting(server.terms, server.clients, tokens, records, trail)

    async def open(self) -> None:
        """Make the indexes that are not there yet."""
        await run_in_threadpool(self._tokens.open)

    def routes(self) -> list[BaseRoute]:
        """All pages and endpoints, below `/auth/`."""
        server, pages, records = self._server, self._accounts.pages, self._records
        return [
            *ChoosingPages(pages, server.flow, records).routes(),
            *ConsentPages(pages, server.flow, records, server.terms).routes(),
            *LaunchPages(pages, self._starting, records, server.clients, server.bearer).routes(),
        ]
