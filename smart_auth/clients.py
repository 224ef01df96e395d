"""The apps that are registered here: what they may be, and where they are kept.

Spec: RFC 7591 section 2, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#register-app-with-ehr
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from fhir_server.model.clock import new_id
from smart_auth import scopes
from smart_auth.authorizations import Authorizations
from smart_auth.model import Client
from smart_auth.rows import new_secret, now, object_of, row_of
from smart_auth.store import AuthStore

CLIENTS: Final = "clients"

AUTH_METHODS: Final = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials")
CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._~\-]{1,128}")

#: Schemes that run a script or read files where a browser is sent there.
DANGEROUS_SCHEMES: Final = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "about", "view-source", "filesystem"}
)
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

MOST_REDIRECT_URIS: Final = 50
LONGEST_URI: Final = 2048

#: Secrets are 256 random bits: the hash protects them where it need not be as dear as a password's.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class ClientError(ValueError):
    """A registration that is no good; `error` is RFC 7591's word for it, the text one sentence."""

    def __init__(self, text: str, error: str = "invalid_client_metadata") -> None:
        self.error = error
        super().__init__(text)


class Clients:
    """The collection of registered apps."""

    def __init__(self, store: AuthStore, authorizations: Authorizations) -> None:
        self._store = store
        self._authorizations = authorizations

    def open(self) -> None:
        self._store.ensure(CLIENTS, [IndexModel("created_at")])

    def get(self, client_id: str) -> Client | None:
        """One client, whether active or not."""
        if not CLIENT_ID.fullmatch(client_id):
            return None
        row = self._store.rows(CLIENTS).find_one({"_id": client_id})
        return None if row is None else object_of(Client, row, "client_id")

    def active(self, client_id: str) -> Client | None:
        """One client that may do something."""
        client = self.get(client_id)
        return client if client is not None and client.active else None

    def all(self) -> list[Client]:
        return [object_of(Client, row, "client_id") for row in self._store.rows(CLIENTS).find().sort("created_at", 1)]

    def page(self, after: str, limit: int) -> list[Client]:
        """Some clients, in the order in which they were registered, behind the one that is named; all when none is."""
        rows = self._store.rows(CLIENTS)
        last = rows.find_one({"_id": after}, {"created_at": 1}) if after else None
        behind: dict[str, Any] = {}
        if last is not None:
            moment = last["created_at"]
            behind = {"$or": [{"created_at": {"$gt": moment}}, {"created_at": moment, "_id": {"$gt": after}}]}
        found = rows.find(behind).sort([("created_at", 1), ("_id", 1)]).limit(limit)
        return [object_of(Client, row, "client_id") for row in found]

    def add(self, client: Client, *, more: dict[str, Any] | None = None) -> tuple[Client, str]:
        """Register an app. An empty `client_id` gets one made.

        Args:
            client: what is registered
            more: further fields of the row

        Returns:
            The client, and its secret (empty when it has none), which is not stored and cannot be shown again.

        Raises:
            ClientError: it is no good registration, or its id is taken.
        """
        checked(client)
        secret = new_secret() if client.auth_method.startswith("client_secret") else ""
        client = replace(
            client,
            client_id=client.client_id or new_id(),
            secret_hash=HASHER.hash(secret) if secret else "",
            created_at=now(),
        )
        try:
            self._store.rows(CLIENTS).insert_one({**row_of(client, "client_id"), **(more or {})})
        except DuplicateKeyError:
            raise ClientError(f"There is a client {client.client_id} already.") from None
        return client, secret

    def update(self, client: Client) -> Client:
        """Change a registration; its id, its secret and the day it was made stay.

        Raises:
            ClientError: it is no good registration, or there is none of that id.
        """
        there = self.get(client.client_id)
        if there is None:
            raise ClientError(f"There is no client {client.client_id}.")
        if client.auth_method.startswith("client_secret") and not there.secret_hash:
            raise ClientError("A client without a secret gets one by rotate-secret, not by a change of its method.")
        client = replace(client, secret_hash=there.secret_hash, created_at=there.created_at)
        checked(client)
        row = row_of(client, "client_id")
        self._store.rows(CLIENTS).update_one({"_id": row.pop("_id")}, {"$set": row})
        narrower = not scopes.within(there.scope, client.scope)
        if (there.active and not client.active) or narrower or there.role != client.role:
            self._authorizations.revoke_client(client.client_id)
        return client

    def rotate_secret(self, client_id: str) -> str:
        """Give a client a new secret; the old one is no longer good.

        Raises:
            ClientError: there is no such client, or it is one without a secret.
        """
        client = self.get(client_id)
        if client is None or not client.auth_method.startswith("client_secret"):
            raise ClientError(f"There is no client {client_id} with a secret.")
        secret = new_secret()
        self._store.rows(CLIENTS).update_one({"_id": client_id}, {"$set": {"secret_hash": HASHER.hash(secret)}})
        return secret

    def deactivate(self, client_id: str) -> bool:
        """Let a client do nothing any more, and end all that it was allowed; whether there is one."""
        found = self._store.rows(CLIENTS).update_one({"_id": client_id}, {"$set": {"active": False}})
        self._authorizations.revoke_client(client_id)
        return found.matched_count == 1

    def remove(self, client_id: str) -> None:
        """Take a client out of the collection, and end all that it was allowed."""
        self._store.rows(CLIENTS).delete_one({"_id": client_id})
        self._authorizations.revoke_client(client_id)

    def field(self, client_id: str, name: str) -> Any:
        """A further field of a client's row (see `add`)."""
        row = self._store.rows(CLIENTS).find_one({"_id": client_id}, {name: 1})
        return (row or {}).get(name)


def has_secret(client: Client, secret: str) -> bool:
    """Whether that is the client's secret."""
    try:
        return HASHER.verify(client.secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return False


def checked(client: Client) -> None:
    """Refuse a registration that is no good.

    Raises:
        ClientError: it says what is wrong.
    """
    if client.client_id and not CLIENT_ID.fullmatch(client.client_id):
        raise ClientError("A client id has up to 128 letters, digits, '.', '_', '~' and '-'.")
    if not client.name.strip() or len(client.name) > 200:
        raise ClientError("A client has a name of up to 200 characters.")
    if client.auth_method not in AUTH_METHODS:
        raise ClientError(f"The way to authenticate is one of {', '.join(AUTH_METHODS)}.")
    if not client.grant_types or set(client.grant_types) - set(GRANT_TYPES):
        raise ClientError(f"The grant types are some of {', '.join(GRANT_TYPES)}.")
    if len(client.description) > 500 or len(client.publisher) > 200:
        raise ClientError("A description has up to 500 characters, and who makes the app up to 200.")
    _check_uris(client)
    if "client_credentials" in client.grant_types and client.auth_method == "none":
        raise ClientError("A public client cannot act for itself: client_credentials needs a way to authenticate.")
    unknown = [word for word in scopes.words_in(client.scope) if not scopes.known(word)]
    if unknown or len(client.scope) > 16_384:
        raise ClientError(f"The scope holds what is none: {' '.join(unknown)[:200]}.")
    _check_keys(client)


def _check_uris(client: Client) -> None:
    if "authorization_code" in client.grant_types:
        if not client.redirect_uris:
            raise ClientError("A client that users authorize needs a redirect URI.", "invalid_redirect_uri")
    elif client.redirect_uris:
        raise ClientError("Redirect URIs are for clients that users authorize.", "invalid_redirect_uri")
    if len(client.redirect_uris) > MOST_REDIRECT_URIS:
        raise ClientError(f"A client has {MOST_REDIRECT_URIS} redirect URIs at most.", "invalid_redirect_uri")
    for uri in client.redirect_uris:
        if fault := fault_of_redirect_uri(uri):
            raise ClientError(fault, "invalid_redirect_uri")
    for name in ("launch_url", "logo_uri", "client_uri", "policy_uri", "jwks_uri"):
        if (uri := getattr(client, name)) and not is_web_address(uri):
            raise ClientError(f"{name} is an https address; http is possible on this machine alone.")


def is_web_address(uri: str) -> bool:
    """Whether that is an https address, or an http address of this machine."""
    if not _is_plain(uri):
        return False
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  (raises when it is none)
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _is_plain(uri: str) -> bool:
    """Whether a URI has the characters that URIs have (RFC 3986), and no control characters above all."""
    return len(uri) <= LONGEST_URI and re.fullmatch(r"[!#-\[\]_a-z~=;?@]+", uri) is not None


def fault_of_redirect_uri(uri: str) -> str:
    """What is wrong with a redirect URI; empty when nothing is (RFC 6749 section 3.1.2, RFC 8252 section 7)."""
    if not _is_plain(uri):
        return "A redirect URI holds characters that URIs cannot have, or is too long."
    if "#" in uri:
        return "A redirect URI has no fragment."
    if "*" in uri:
        return "A redirect URI has no wildcard: it is compared exactly."
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        return "A redirect URI is an absolute URI."
    if scheme in ("http", "https"):
        return (
            "" if is_web_address(uri) else "A redirect URI is https; http is possible on the user's own machine alone."
        )
    if not scheme or scheme in DANGEROUS_SCHEMES:
        return "A redirect URI is an absolute URI."
    if "." not in scheme:
        return "A scheme of one's own is a domain name in reverse, such as com.example.app (RFC 8252)."
    return ""


def _check_keys(client: Client) -> None:
    if client.auth_method != "private_key_jwt":
        return
    if bool(client.jwks) == bool(client.jwks_uri):
        raise ClientError("private_key_jwt needs either jwks or jwks_uri.")
    if client.jwks is not None:
        public_keys_of(client.jwks)


def public_keys_of(jwks: Any) -> KeySet:
    """The keys of a key set with which a client can sign: RSA and elliptic curves, public ones.

    Raises:
        ClientError: it is no key set, holds no such key, or holds a private one.
    """
    rows: Any = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(rows, list):
        raise ClientError("A key set is an object with the member keys.")
    usable = [row for row in rows if isinstance(row, dict) and row.get("kty") in ("RSA", "EC")]
    if any("d" in row for row in usable):
        raise ClientError(
            "A key set holds public keys alone: this one holds a private one, which is now known to others."
        )
    # Who takes the private part out of a key often leaves `key_ops` as it was (`sign`): it is a key for signatures.
    signing = [
        {name: value for name, value in row.items() if name != "key_ops"}
        for row in usable
        if not isinstance(row.get("key_ops"), list) or {"sign", "verify"} & {*map(str, row["key_ops"])}
    ]
    try:
        return KeySet.import_key_set({"keys": signing})
    except (JoseError, ValueError, TypeError, KeyError):
        raise ClientError("The key set holds no usable public key (RSA or EC).") from None
