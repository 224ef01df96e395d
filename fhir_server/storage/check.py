"""Proves that a MongoDB can carry the server, before anything else starts."""

from __future__ import annotations

from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from fhir_server.storage.setup import SetupError

OLDEST_VERSION = (5, 0)
AUTHENTICATION_FAILED, UNAUTHORIZED = 18, 13


def check_mongodb(uri: str, *, timeout_s: float = 5.0) -> None:
    """Check that the MongoDB at `uri` answers, is a replica set or sharded cluster, and is recent enough.

    Raises:
        SetupError: one line that says what is wrong and what to do; it never holds the credentials of the URI.
    """
    where = host_of(uri)
    timeout_ms = int(timeout_s * 1000)
    try:
        with MongoClient[dict[str, object]](
            uri, serverSelectionTimeoutMS=timeout_ms, connectTimeoutMS=timeout_ms, appname="healthsphere-check"
        ) as client:
            hello = client.admin.command("hello")
            version = str(client.admin.command("buildInfo")["version"])
    except ServerSelectionTimeoutError as error:
        if "RSGhost" in str(error):
            raise SetupError(
                f"MongoDB at {where} is a replica set that was never made: run `rs.initiate()` in mongosh once."
            ) from error
        raise SetupError(
            f"MongoDB at {where} does not answer within {timeout_s:g} s ({_reason(error)}): start it, "
            "correct MONGODB_URI, or unset MONGODB_URI to use the embedded one."
        ) from error
    except OperationFailure as error:
        if error.code in {AUTHENTICATION_FAILED, UNAUTHORIZED}:
            raise SetupError(
                f"MongoDB at {where} refuses the user or password: correct them in MONGODB_URI."
            ) from error
        raise SetupError(
            f"MongoDB at {where} refuses the connection with error {error.code}: look at its log."
        ) from error
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise SetupError(
            "MONGODB_URI is no connection string that can be used: "
            "it looks like mongodb://user:password@host:27017/?replicaSet=rs0."
        ) from error
    except PyMongoError as error:
        raise SetupError(
            f"MongoDB at {where} cannot be used ({type(error).__name__}): look at its log, or correct MONGODB_URI."
        ) from error
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        remedy = (
            "run `rs.initiate()` in mongosh"
            if hello.get("isreplicaset")
            else "restart it with `--replSet rs0` and run `rs.initiate()` in mongosh once"
        )
        raise SetupError(f"MongoDB at {where} is no replica set, so it has no transactions: {remedy}.")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        needed = ".".join(map(str, OLDEST_VERSION))
        raise SetupError(f"MongoDB at {where} is version {version}, and {needed} or later is needed: upgrade it.")


def host_of(uri: str) -> str:
    """The hosts of a connection string, without user and password."""
    return urlsplit(uri).netloc.rpartition("@")[2] or "the address in MONGODB_URI"


def _reason(error: ServerSelectionTimeoutError) -> str:
    text = str(error)
    for sign, reason in (
        ("refused", "connection refused"),
        ("Name or service not known", "unknown host"),
        ("nodename nor servname", "unknown host"),
        ("No address associated", "unknown host"),
        ("Temporary failure in name resolution", "unknown host"),
        ("SSL", "TLS failed"),
        ("No primary", "no primary"),
        ("No replica set members match", "no primary"),
    ):
        if sign in text:
            return reason
    return "no answer"
