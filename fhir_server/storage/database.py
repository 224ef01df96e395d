"""The connection to MongoDB: how durable a write is, how decimals travel, how failures are named."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pymongo
from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from bson.decimal128 import Decimal128
from bson.errors import InvalidDocument
from pymongo import AsyncMongoClient
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fhir_server.model.errors import FhirError, TooLargeError, UnavailableError

#: An acknowledged write is on a majority of the members, and in their journals.
DURABLE = WriteConcern(w="majority", j=True)

#: For saying good-bye to a database.
CLOSING_S = 3.0

#: How long a server that ends waits for its database to answer, and for who waits in a closed client to notice.
PATIENCE_S = 5.0
NOTICED_S = 0.7

MONGO_TOO_LARGE = 10334
MONGO_CACHE_OVERFLOW = 388


@lru_cache(maxsize=8192)
def _decimal128_of(value: Decimal) -> Decimal128:
    """One value stands in up to twelve index entries of a resource, and converting it is a loop over its digits."""
    return Decimal128(value)


class _DecimalCodec(TypeCodec):
    """Index entries and search values are decimals; MongoDB compares them exactly as Decimal128 (34 digits)."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Decimal) -> Decimal128:
        return _decimal128_of(value)

    def transform_bson(self, value: Decimal128) -> Decimal:
        return value.to_decimal()


CODEC: CodecOptions[dict[str, Any]] = CodecOptions(type_registry=TypeRegistry([_DecimalCodec()]))

Client = AsyncMongoClient[dict[str, Any]]


def connect(uri: str) -> Client:
    """A client of the replica set at `uri`; it connects when first used."""
    return AsyncMongoClient(
        uri,
        appname="healthsphere",
        maxPoolSize=64,
        serverSelectionTimeoutMS=10_000,
        retryWrites=True,
        retryReads=True,
        w="majority",
        journal=True,
    )


def database_of(client: Client, name: str) -> Any:
    """The database, with durable writes and reads of what a majority holds."""
    return client.get_database(name, codec_options=CODEC, write_concern=DURABLE, read_concern=ReadConcern("majority"))


async def disconnected(client: Client) -> None:
    """Close a client, whether or not there still is a database."""
    # Sessions and cursors that were left open are closed at a server that may be gone; one of them is then told as a
    # wrong use. The driver's own limit, not a cancellation: that can leave its locks to nobody (`given_up`).
    with suppress(PyMongoError, TimeoutError), pymongo.timeout(CLOSING_S):
        async with asyncio.timeout(2 * CLOSING_S):
            await client.close()


async def given_up(client: Client) -> bool:
    """Close a client at once if its database does not answer any more; whether that was so.

    For the end of a server, whose tasks may all wait for that database. A closed client ends their waiting by itself,
    within half a second. To cancel them instead is not safe with Python 3.11: they wait by `asyncio.wait_for`, which
    can lose a cancellation (see `model.ending`); and of two cancellations that come soon after each other, the second
    makes the waiting one let go of a lock that it does not have yet. It was seen that the driver's lock then belonged
    to nobody, and that a task which still waited for it kept the event loop, and so the process, for good.
    """
    with suppress(PyMongoError, TimeoutError), pymongo.timeout(PATIENCE_S):
        await client.admin.command("ping")
        return False
    await disconnected(client)
    await asyncio.sleep(NOTICED_S)
    return True


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's failures into the kinds that a FHIR client understands; nothing of the database shows."""
    try:
        yield
    except FhirError:
        raise
    except (DocumentTooLarge, InvalidDocument) as error:
        raise too_large() from error
    except ExecutionTimeout as error:
        raise UnavailableError(
            "The database stopped a query that took longer than it may here. Ask for less: more criteria, a smaller "
            "page, no `_total=accurate`.",
            key="HS-STORE-TIME",
            code="timeout",
            headers={"Retry-After": "30"},
        ) from error
    except (ConnectionFailure, NetworkTimeout) as error:
        raise silent() from error
    except AttributeError as error:
        # The driver stumbles over the answer that it does not get when a server goes away under it.
        if not _is_of_driver(error):
            raise
        raise silent() from error
    except OperationFailure as error:
        codes = {error.code, *(row["code"] for row in (error.details or {}).get("writeErrors", ()))}
        if MONGO_TOO_LARGE in codes:
            raise too_large() from error
        if MONGO_CACHE_OVERFLOW in codes:
            raise TooLargeError(
                "The transaction is larger than the database can hold open at once. Nothing was written: send it in "
                "several, or give MongoDB a larger cache.",
                key="HS-STORE-CACHE",
            ) from error
        if error.has_error_label("TransientTransactionError") or error.has_error_label("RetryableWriteError"):
            raise UnavailableError(
                "The database is busy with a conflicting change; try again.",
                key="HS-STORE-BUSY",
                headers={"Retry-After": "1"},
            ) from error
        raise
    except PyMongoError as error:
        raise UnavailableError(
            "The database does not answer; try again.", key="HS-STORE-UNAVAILABLE", headers={"Retry-After": "2"}
        ) from error


def too_large() -> TooLargeError:
    return TooLargeError(
        "The resource, with what is indexed of it, is larger than the 16 MiB that one resource may take.",
        key="HS-STORE-TOO-LARGE",
    )


def silent() -> UnavailableError:
    return UnavailableError(
        "The database does not answer in time. Nothing is known to be lost; try again.",
        key="HS-STORE-UNAVAILABLE",
        headers={"Retry-After": "2"},
    )


def _is_of_driver(error: BaseException) -> bool:
    """Whether an error was raised in the driver's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "/pymongo/" in frames[-1].filename.replace("\\", "/")
