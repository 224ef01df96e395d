"""The public keys of clients that sign: registered by value, or fetched from where the client publishes them.

A fetched set is kept as long as its Cache-Control says, an hour at most. A key that is not in it may be new: then it is
fetched again, at most once a minute, so that nobody can have this server fetch at will.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from joserfc.jwk import KeySet

from smart_auth.clients import ClientError, public_keys_of
from smart_auth.fetch import Fetch, FetchError
from smart_auth.model import Client

KEPT_AT_MOST_S: Final = 3600
KEPT_WHEN_UNSAID_S: Final = 300
REFETCH_S: Final = 60
#: After a failure the next attempt waits this long.
FAILURE_S: Final = 5
#: Key sets that are kept.
MOST: Final = 1000


class KeysError(Exception):
    """A client's keys cannot be had; the text is a few words, without the address."""


@dataclass(slots=True)
class _Kept:
    keys: KeySet | None = None
    fresh_until: float = 0.0
    fetched_at: float = float("-inf")
    failed_at: float = float("-inf")
    fault: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class ClientKeys:
    """Looks up clients' keys; blocking, for worker threads."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: dict[str, _Kept] = {}

    def of(self, client: Client, kid: str | None) -> KeySet:
        """The keys of a client, looked up again when `kid` is none of those that are kept.

        Raises:
            KeysError: they cannot be had.
        """
        if client.jwks is not None:
            try:
                return public_keys_of(client.jwks)
            except ClientError as error:
                raise KeysError(str(error)) from None
        if not client.jwks_uri:
            raise KeysError("the client has no keys")
        kept = self._kept.setdefault(client.jwks_uri, _Kept())
        while len(self._kept) > MOST:
            self._kept.pop(next(iter(self._kept)), None)
        # One fetch at a time for an address; who waits longer than a fetch may take gives up.
        if not kept.lock.acquire(timeout=6):
            raise KeysError("the client's key set takes too long")
        try:
            return self._current(client.jwks_uri, kept, kid)
        finally:
            kept.lock.release()

    def _current(self, uri: str, kept: _Kept, kid: str | None) -> KeySet:
        moment = time.monotonic()
        unknown = kept.keys is not None and kid is not None and kid not in {key.kid for key in kept.keys.keys}
        if kept.keys is None or moment >= kept.fresh_until or (unknown and moment >= kept.fetched_at + REFETCH_S):
            if moment < kept.failed_at + FAILURE_S:
                raise KeysError(kept.fault)
            try:
                body, seconds = self._fetch(uri)
                kept.keys = public_keys_of(json.loads(body))
            except (FetchError, ClientError, ValueError, RecursionError) as error:
                kept.failed_at = time.monotonic()
                said = str(error) if isinstance(error, FetchError) else "it is none"
                kept.fault = f"the client's key set cannot be had: {said}"
                if kept.keys is not None and moment < kept.fresh_until:
                    return kept.keys  # the key that was looked for is not there; the others are still good
                # What is no longer fresh is no longer used: a client that takes a key back must be able to rely on it.
                kept.keys = None
                raise KeysError(kept.fault) from None
            kept.fetched_at = time.monotonic()
            kept.fresh_until = kept.fetched_at + min(KEPT_WHEN_UNSAID_S if seconds is None else seconds, KEPT_AT_MOST_S)
        return kept.keys
