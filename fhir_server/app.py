"""The composition root: builds every part, joins them, starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fhir_server.access.compiled import Compiler
from fhir_server.access.entrance import Entrance
from fhir_server.access.gate import Gate
from fhir_server.audit.doors import Doors
from fhir_server.audit.keys import load_or_create_keys, seal_keys
from fhir_server.audit.materialize import Materializer
from fhir_server.audit.trail import Trail
from fhir_server.background import Background
from fhir_server.entry import Entry
from fhir_server.http.docs import description_pages
from fhir_server.http.doors import OtherOrigins, PageDoor, StrictTransport
from fhir_server.http.fhir import FhirApplication
from fhir_server.http.hosts import LocalHosts
from fhir_server.http.limits import RequestLimits
from fhir_server.http.openapi import Described
from fhir_server.http.pages import FrontPage, MetricsAccess, pages
from fhir_server.http.rates import Rate, Rates
from fhir_server.interactions.context import Context, Limits
from fhir_server.interactions.outlets import Outlet
from fhir_server.interactions.table import TABLE, dispatch
from fhir_server.model.clock import http_date_of, now_us
from fhir_server.model.ending import ended
from fhir_server.model.happening import Happening
from fhir_server.repository.carried import Carried
from fhir_server.repository.containing import CONTAINING, Containing
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.repository import Repository
from fhir_server.repository.search import Searcher
from fhir_server.search.bounds import Bounds
from fhir_server.search.index import Indexer
from fhir_server.search.indexes import indexes_of
from fhir_server.search.ucum import canonical
from fhir_server.search.words import CONTENT, TEXT
from fhir_server.settings import Settings, is_loopback
from fhir_server.storage.database import connect, disconnected
from fhir_server.storage.store import Store
from fhir_server.terminology.searching import SearchCodes
from fhir_server.validating import conformance_of, packages_of, profiles_of, terminology_of
from fhir_server.validation import Validator
from fhir_server.version import VERSION
from integrations import calendar, realtime
from integrations.clamd import clamd_of
from integrations.notify import outlets_of
from integrations.prescription_keys import prescription_keys
from integrations.terminology_server import terminology_server_of
from profiles.registry import Registry, registry
from profiles.terminology import terminology
from resources.parts import CREATING, EXPLAINING, OPERATIONS, PARTS, RULES, account_ended, running
from resources.signing import Signer

MOUNT = "/fhir"

#: Discovery lies below the FHIR base, and is the sign-in side's.
WELL_KNOWN = f"{MOUNT}/.well-known/"
#: Names the head of the audit trail, in the data folder.
WITNESS = "audit-head"
#: The key and the certificate that sign what the server issues, in the data folder.
SIGNING = "document-signing.pem"

#: What a web page of another origin may read of an answer.
EXPOSED_HEADERS = (
    "ETag",
    "Last-Modified",
    "Link",
    "Location",
    "Content-Location",
    "X-Request-Id",
    "WWW-Authenticate",
    "Accept-Ranges",
    "Content-Range",
    "Repr-Digest",
    "X-Security-Context",
    "X-Content-Scan",
    "Retry-After",
)

#: Pages that this machine serves.
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


def definitions_of(settings: Settings) -> Registry:
    """The definitions of FHIR, to which this server adds its own."""
    known = registry().copy()
    known.full_text = {"off": (), "narrative": (TEXT,), "all": (TEXT, CONTENT)}[settings.text_search]
    return known


def store_of(settings: Settings, definitions: Registry) -> tuple[Store, Callable[[], Any]]:
    """The store that the settings name, and how to close its connection."""
    assert settings.mongodb_uri is not None, "`serve` has put the address of a MongoDB into the settings"
    client = connect(settings.mongodb_uri.get_secret_value())
    store = Store(
        client,
        settings.mongodb_database,
        partial(indexes_of, registry=definitions),
        max_time_ms=settings.query_time_ms,
    )
    return store, partial(disconnected, client)


def indexer_of(settings: Settings, definitions: Registry) -> Indexer:
    return Indexer(definitions, terminology(), settings.base_url)


def audit_keys_of(settings: Settings) -> tuple[bytes, ...]:
    """The keys that seal the trail, the first of which seals: derived from the file, or none where there is none."""
    return seal_keys(load_or_create_keys(settings.audit_key_file)) if settings.audit == "on" else ()


def trail_of(settings: Settings, store: Store, indexer: Indexer) -> tuple[Trail | None, Materializer | None]:
    """The audit trail, and what makes AuditEvents of it; nothing where it is switched off."""
    if settings.audit == "off":
        return None, None
    key = audit_keys_of(settings)[0]
    trail = Trail(store.batches, settings.base_url, key=key, witness=settings.data_dir / WITNESS)
    store.pause_for(trail.between)
    return trail, Materializer(store, indexer, trail, days=settings.audit_days, key=key)


class Unheard:
    """Stands for the audit trail where it is switched off."""

    async def happened(self, happening: Happening) -> None:
        return None


class Front:
    """Sends FHIR requests straight to the FHIR application, all others to the web framework."""

    def __init__(self, fhir: ASGIApp, others: ASGIApp) -> None:
        self._fhir = fhir
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_fhir = scope["type"] == "http" and path.startswith(MOUNT) and path[len(MOUNT) : len(MOUNT) + 1] in ("", "/")
        is_fhir = is_fhir and not path.startswith(WELL_KNOWN)

        async def send_dated(message: Message) -> None:
            # uvicorn's own Date lags by up to a second, and would then stand before Last-Modified (RFC 9110, 8.8.2.1).
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", http_date_of(now_us()).encode())]
            await send(message)

        await (self._fhir if is_fhir else self._others)(scope, receive, send_dated)


def create_app(settings: Settings, *, gate: Gate | None = None, now: Callable[[], int] = now_us) -> ASGIApp:
    """The server as one ASGI application; its lifespan opens and closes the database.

    Args:
        gate: judges who calls, in place of the one that the settings ask for
        now: the moment by which timers are due
    """
    known = definitions_of(settings)
    store, close = store_of(settings, known)
    indexer = indexer_of(settings, known)
    packages = packages_of(settings, store)
    definitions = Definitions(store, known, indexer, packages)
    containing = Containing(store.rows(CONTAINING))
    background = Background(settings, store, now)
    trail, ledger = trail_of(settings, store, indexer)
    scanner = clamd_of(settings.clamd)
    store.blobs.quarantine.everything = scanner is not None
    enforced = settings.referential_integrity == "refuse"
    engine = terminology_of(settings, store, packages, terminology_server_of(settings))
    codes = SearchCodes(engine)
    profiles = profiles_of(store, packages, engine)
    repository = Repository(
        store,
        indexer,
        Validator(registry(), terminology(), canonical),
        Integrity(store, known, settings.base_url, enforced=enforced),
        max_resource_bytes=settings.max_resource_bytes,
        definitions=definitions,
        containing=containing,
        rules=RULES,
        conformance=conformance_of(settings, profiles),
        most_messages=settings.messages_per_minute,
    )
    outlets: dict[str, Outlet] = {}
    context = Context(
        registry=known,
        repository=repository,
        searcher=Searcher(
            store,
            known,
            terminology(),
            settings.base_url,
            Bounds(
                settings.max_search_parameters,
                settings.max_search_values,
                settings.max_chain_depth,
                settings.max_includes,
                settings.max_include_rounds,
            ),
            containing=containing,
            codes=codes,
            carried=Carried(indexer),
        ),
        limits=Limits(
            settings.default_page_size,
            settings.max_page_size,
            settings.max_bundle_entries,
            settings.conditional_delete_limit,
            settings.cascade_limit,
            settings.document_types,
            settings.retention_file,
            settings.prescription_collect_days,
            settings.pharmacy_feed_days,
            settings.doctor_approvals,
            settings.if_match_types,
        ),
        data_dir=settings.data_dir,
        table=TABLE,
        operations=OPERATIONS,
        dispatch=dispatch,
        definitions=definitions,
        jobs=background.jobs,
        feed=background.feed,
        timers=background.timers,
        profiles=profiles,
        terminology=engine,
        caught_up=ledger.caught_up if ledger is not None else None,
        scanner=scanner,
        creating=CREATING,
        explaining=EXPLAINING,
        account_ended=account_ended,
        signer=Signer(settings.data_dir / SIGNING, settings.brand_name),
        witness=Doors(trail) if trail is not None else None,
        outlets=outlets,
    )
    background.register(context)
    for part in PARTS:
        if part.join is not None:
            part.join(context)
    compiler = Compiler(known, terminology(), settings.base_url, codes)
    entrance = Entrance(store, compiler, indexer, settings.base_url)
    entry: Entry | None = None
    if gate is None and settings.auth == "on":
        gate = entry = Entry(
            settings, store, known, context, entrance, Doors(trail) if trail is not None else Unheard()
        )
        context.sign_in.accounts = entry.accounts.ending
        context = replace(context, break_glass=entry.break_glass, security=entry.security)
    outlets |= outlets_of(settings, entry.accounts.mail if entry is not None else None)
    fhir = FhirApplication(
        context,
        base_url=settings.base_url,
        mount=MOUNT,
        limits=RequestLimits(
            body_bytes=settings.max_body_bytes,
            binary_bytes=settings.max_binary_bytes,
            url_bytes=settings.max_url_bytes,
            header_bytes=settings.max_header_bytes,
            at_once=settings.max_concurrent_requests,
        ),
        gzip_min_bytes=settings.gzip_min_bytes,
        gate=gate,
        entrance=entrance,
        trail=trail,
        rates=Rates(settings.address_requests_per_minute, settings.client_requests_per_minute) if entry else None,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The table of units takes a third of a second to read; the first write should not wait for it.
        await asyncio.gather(store.open(), asyncio.to_thread(canonical, Decimal(1), "g"))
        await store.blobs.sweep()
        await packages.open()
        await engine.open()
        await definitions.refresh(at_once=True)
        await containing.refresh()
        watching = [
            asyncio.create_task(definitions.watch(), name="search parameters"),
            asyncio.create_task(containing.watch(), name="containing types"),
        ]
        if trail is not None and ledger is not None:
            await trail.start()
            await ledger.start()
        await background.open()
        if entry is not None:
            await entry.open()
        async with running(context):
            yield
            await store.given_up()
        if entry is not None:
            await entry.close()
        await background.close()
        await ended(watching)
        if trail is not None and ledger is not None:
            await ledger.close()
            await trail.close()
        await engine.close()
        await close()

    others = FastAPI(title="HealthSphere", version=VERSION, lifespan=lifespan, openapi_url=None)
    others.router.routes.extend(calendar.routes(store, settings.base_url))
    if entry is not None or settings.auth == "off":
        others.router.routes.extend(realtime.routes(store, entry.authorization.bearer if entry is not None else None))
    others.router.routes.extend(pages(front_page_of(settings), store.ping, metrics_of(settings, entry)))
    if entry is not None:
        others.router.routes.extend(entry.routes())
    described = Described(known, TABLE, OPERATIONS, settings.base_url, needs_token=gate is not None)
    others.include_router(description_pages(described, settings.base_url))
    others.router.routes.append(prescription_keys(context))
    front: ASGIApp = Front(fhir, PageDoor(others, Rate(settings.auth_requests_per_minute)))
    if settings.cors_origins:
        # Without access control, any page that is open in a browser on this machine could read every record: then only
        # pages that this machine serves may call, unless the operator names others.
        automatic = settings.cors_origins == ("auto",)
        local_only = automatic and settings.auth == "off"
        front = OtherOrigins(
            front,
            entry.answers_preflight if entry is not None else no_path,
            () if local_only else ("*",) if automatic else settings.cors_origins,
            allow_origin_regex=LOCAL_ORIGIN if local_only else None,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
            allow_headers=("*",),
            expose_headers=EXPOSED_HEADERS,
            max_age=86_400,
        )
    if settings.auth == "off":
        front = LocalHosts(front, [urlsplit(settings.base_url).hostname or ""])
    # Of this machine's own name browsers would believe it for all servers of all ports.
    if settings.is_https and settings.hsts_seconds and not is_loopback(urlsplit(settings.base_url).hostname or ""):
        front = StrictTransport(front, settings.hsts_seconds)
    if settings.trusted_proxies:
        # Outermost: from here on the address of a request is its client's, for limits, sign-ins and the trail.
        front = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", front), list(settings.trusted_proxies)))
    return front


def no_path(_: str) -> bool:
    """Where no endpoint answers the questions of browsers by itself."""
    return False


def front_page_of(settings: Settings) -> FrontPage:
    return FrontPage(settings.base_url, signs_in=settings.auth == "on", registers=settings.self_registration == "on")


def metrics_of(settings: Settings, entry: Entry | None) -> MetricsAccess | None:
    """Who may read the metrics; None is everybody."""
    if entry is None or settings.metrics_access == "open":
        return None
    return MetricsAccess(entry.is_operator)
