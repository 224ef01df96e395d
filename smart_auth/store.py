"""Where the sign-in side keeps its rows: MongoDB collections `auth_…`, apart from the resources.

The client is PyMongo's blocking one, since Authlib's grants are blocking: call it from worker threads
(`asyncio.to_thread`, `run_in_threadpool`), never from the event loop. Everything is acknowledged by a majority that has
it in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import pymongo
from pymongo import IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

PREFIX = "auth_"

#: How long a primary is waited for, in an election too; as long as for the resources.
SELECTION_MS: Final = 10_000

#: For saying good-bye to a database that may be gone.
CLOSING_S: Final = 1.0

Row = dict[str, Any]

#: A unique index has such a row already.
Duplicate = DuplicateKeyError


def index_on(
    *fields: str, unique: bool = False, expires: bool = False, where: Row | None = None, descending: bool = False
) -> IndexModel:
    """An index, for `AuthStore.ensure`; modules of rows need not know the driver.

    Args:
        expires: rows go when the moment in the field has passed (within about a minute: check it, too)
        where: only rows that meet this are in the index
    """
    options: dict[str, Any] = {"unique": unique}
    if expires:
        options["expireAfterSeconds"] = 0
    if where is not None:
        options["partialFilterExpression"] = where
    return IndexModel([(field, -1 if descending else 1) for field in fields], **options)


class AuthStore:
    """The collections of the sign-in side, in the database of the resources."""

    def __init__(self, client: MongoClient[Row], database: str) -> None:
        self.client = client
        self._database = client.get_database(
            database, write_concern=WriteConcern("majority", j=True), read_concern=ReadConcern("majority")
        )

    @classmethod
    def connect(cls, uri: str, database: str) -> AuthStore:
        """Connects when first used."""
        client: MongoClient[Row] = MongoClient(
            uri, tz_aware=True, appname="healthsphere-auth", serverSelectionTimeoutMS=SELECTION_MS
        )
        return cls(client, database)

    def rows(self, name: str) -> Collection[Row]:
        """The collection `auth_<name>`."""
        return self._database[PREFIX + name]

    def ensure(self, name: str, indexes: Sequence[IndexModel]) -> None:
        """Make indexes that are not there yet; each module of rows says its own when the server opens."""
        if indexes:
            self.rows(name).create_indexes(list(indexes))

    def close(self) -> None:
        """Close the connections; whoever still waits in another thread for a database that has gone is told so."""
        with suppress(PyMongoError), pymongo.timeout(CLOSING_S):
            self.client.close()
