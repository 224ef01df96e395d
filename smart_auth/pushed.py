"""Pushed authorization requests: the app sends its request by itself, and the browser carries only a name for it.

Spec: RFC 9126
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError
from pymongo import IndexModel

from smart_auth.authorize import RefusedError, asked_of
from smart_auth.oauth import AUTH_METHODS, Exchange, OAuthServer
from smart_auth.rows import digest_of, new_secret, now
from smart_auth.store import AuthStore

PUSHED: Final = "pushed"
PREFIX: Final = "urn:ietf:params:oauth:request_uri:"

#: Parameters by which the client authenticates, which are no part of the request.
CREDENTIALS: Final = ("client_secret", "client_assertion", "client_assertion_type")


class PushedRequests:
    """The collection of pushed requests."""

    def __init__(self, store: AuthStore, lasts_s: int) -> None:
        self._store = store
        self.lasts_s = lasts_s

    def open(self) -> None:
        self._store.ensure(PUSHED, [IndexModel("ends_at", expireAfterSeconds=0)])

    def push(self, server: OAuthServer, exchange: Exchange) -> dict[str, Any]:
        """Authenticate the client, check the request as the authorization endpoint would, and store it.

        Raises:
            OAuth2Error: the client or the request is no good.
        """
        client = server.authenticate_client(exchange, AUTH_METHODS)
        if "request_uri" in exchange.form:
            raise InvalidRequestError("A request_uri cannot be pushed")
        data = {name: value for name, value in exchange.form.items() if name not in CREDENTIALS}
        data["client_id"] = client.get_client_id()
        try:
            asked_of(server, data)
        except RefusedError as error:
            raise InvalidRequestError(error.description, error=error.error) from None
        name = new_secret()
        row = {
            "_id": digest_of(name),
            "client_id": client.get_client_id(),
            "data": data,
            "ends_at": now() + timedelta(seconds=self.lasts_s),
        }
        self._store.rows(PUSHED).insert_one(row)
        return {"request_uri": PREFIX + name, "expires_in": self.lasts_s}

    def take(self, data: dict[str, str]) -> dict[str, str]:
        """The parameters of an authorization request; those that were pushed, once, when it names a pushed one.

        Raises:
            RefusedError: it names one that is unknown, over, or another client's.
        """
        request_uri = data.get("request_uri")
        if request_uri is None:
            return data
        row = self._store.rows(PUSHED).find_one_and_delete(
            {
                "_id": digest_of(request_uri.removeprefix(PREFIX)),
                "client_id": data.get("client_id"),
                "ends_at": {"$gt": now()},
            }
        )
        if row is None or not request_uri.startswith(PREFIX):
            raise RefusedError("invalid_request_uri", "The request_uri is unknown, was used before, or is over.")
        pushed: dict[str, str] = row["data"]
        return pushed
