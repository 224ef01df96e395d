"""Launches, consent and apps, put together: give it the server and the accounts, take its routes."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from fhir_server.model.happening import Trail
from smart_auth.account_side import AccountSide
from smart_auth.app_state import AppStates
from smart_auth.app_state_api import BASE, CAPABILITY, AppStateApi
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.brands import Brand, BrandBundle
from smart_auth.brands import configuration_of as brand_configuration
from smart_auth.client_administration import ClientAdministration
from smart_auth.launches import LaunchTokens
from smart_auth.pages.admin_apps import AdminAppsPages
from smart_auth.pages.choosing import ChoosingPages
from smart_auth.pages.clients_api import ClientsApi
from smart_auth.pages.consent import ConsentPages
from smart_auth.pages.launching import LaunchPages
from smart_auth.ports import Records
from smart_auth.starting import Starting
from smart_auth.store import AuthStore
from smart_auth.terms import Terms
from smart_auth.vault import Vault


def configuration_of(brand: Brand, terms: Terms) -> dict[str, Any]:
    """What discovery says of brands and app state: the authorization server's `more_configuration`.

    State has an address of its own, which the standard has named in two ways.
    """
    endpoint = terms.at(BASE)
    return {
        **brand_configuration(brand, terms),
        "capabilities": [CAPABILITY],
        "smart_app_state_endpoint": endpoint,
        "associated_endpoints": [{"url": endpoint, "capabilities": [CAPABILITY]}],
    }


class LaunchSide:
    """The pages between an app's request and its code, those from which apps are opened, and what apps keep here."""

    def __init__(
        self,
        store: AuthStore,
        vault: Vault,
        server: AuthorizationServer,
        accounts: AccountSide,
        tokens: LaunchTokens,
        records: Records,
        trail: Trail,
        brand: Brand,
    ) -> None:
        """
        Args:
            store, vault: where rows are kept, and what seals them
            server: the authorization server, which was given the same `tokens` as its `launches`
            accounts: who signs in, and the pages' looks
            tokens: the launch tokens that are out
            records: the patients and encounters that users may see
            trail: where happenings go
            brand: who runs the server; `configuration_of` tells discovery
        """
        self._server = server
        self._accounts = accounts
        self._tokens = tokens
        self._records = records
        self._starting = Starting(server.terms, server.clients, tokens, records, trail)
        self._states = AppStates(store, vault)
        self._brands = BrandBundle(brand, server.terms, store)
        self._administration = ClientAdministration(server.clients, server.authorizations, trail)

    async def open(self) -> None:
        """Make the indexes that are not there yet."""
        for part in (self._tokens, self._states, self._brands):
            await run_in_threadpool(part.open)

    def routes(self) -> list[BaseRoute]:
        """All pages and endpoints, below `/auth/`."""
        server, pages, records = self._server, self._accounts.pages, self._records
        return [
            *ChoosingPages(pages, server.flow, records).routes(),
            *ConsentPages(pages, server.flow, records, server.terms).routes(),
            *LaunchPages(pages, self._starting, records, server.clients, server.bearer).routes(),
            *AppStateApi(server.terms, self._states, server.clients, server.bearer).routes(),
            *self._brands.routes(),
            *AdminAppsPages(pages, self._administration).routes(),
            *ClientsApi(pages, self._accounts.admin_api, self._administration).routes(),
        ]
