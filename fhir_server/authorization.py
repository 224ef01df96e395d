"""The authorization server as the settings describe it: for the server itself, and for commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fhir_server.model.happening import Trail
from fhir_server.settings import Settings, is_loopback
from profiles.registry import registry
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.clients import LOOPBACK
from smart_auth.fetch import Fetch, fetcher
from smart_auth.oauth import ClientWait
from smart_auth.operator_token import OperatorToken
from smart_auth.outbound import Outbound
from smart_auth.ports import Launches, Sessions
from smart_auth.store import AuthStore
from smart_auth.terms import DAY_S, Terms
from smart_auth.vault import Vault


def terms_of(settings: Settings) -> Terms:
    """What the operator has decided about signing in."""
    token = settings.client_registration_token
    return Terms(
        issuer=settings.base_url,
        access_token_s=settings.access_token_minutes * 60,
        refresh_token_s=settings.refresh_token_days * DAY_S,
        registration=settings.client_registration,
        registration_token=token.get_secret_value() if token else "",
        resource_types=frozenset(registry().resource_types),
    )


def outbound_of(settings: Settings) -> Outbound:
    """Where connections may go to that others have named.

    A server whose address is this machine's own is for its developer, whose apps run here, too.
    """
    own = LOOPBACK if is_loopback(urlsplit(settings.base_url).hostname or "") else ()
    return Outbound((*own, *settings.outbound_allow))


def authorization_server_of(
    settings: Settings,
    store: AuthStore,
    vault: Vault,
    sessions: Sessions,
    *,
    launches: Launches | None = None,
    trail: Trail | None = None,
    operator: OperatorToken | None = None,
    fetch: Fetch | None = None,
    more_configuration: dict[str, Any] | None = None,
    client_wait_s: ClientWait = lambda _: 0,
    purposes: Mapping[str, str] | None = None,
) -> AuthorizationServer:
    """The authorization server of a worker; `open` it before it serves.

    Args:
        settings: addresses, times, policies
        store: where it keeps its rows
        vault: what opens its signing keys
        sessions: who is signed in
        launches: launch tokens of the EHR launch
        trail: the audit trail
        operator: the operator's token
        fetch: fetches clients' key sets; when there is none, the one that the settings describe
        more_configuration: members that other parts add to `smart-configuration`
        client_wait_s: counts requests of clients that have proved who they are
        purposes: by role, the purpose of use of a token that names none
    """
    return AuthorizationServer(
        terms_of(settings),
        store,
        vault,
        sessions,
        rotate_days=settings.signing_key_days,
        launches=launches,
        trail=trail,
        operator=operator,
        fetch=fetch or fetcher(outbound_of(settings)),
        more_configuration=more_configuration,
        client_wait_s=client_wait_s,
        purposes=purposes,
    )
