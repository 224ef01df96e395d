"""Where the sign-in side keeps its rows: MongoDB collections `auth_…`, apart from the resources.

The client is PyMongo's blocking one, since Authlib's grants are blocking: call it from worker threads
(`asyncio.to_thread`, `run_in_threadpool`), never from the event loop. Everything is acknowledged by a majority that has
it in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

PREFIX = "auth_"

Row = dict[str, Any]


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
        client: MongoClient[Row] = MongoClient(uri, tz_aware=True, appname="healthsphere-auth")
        return cls(client, database)

    def rows(self, name: str) -> Collection[Row]:
        """The collection `auth_<name>`."""
        return self._database[PREFIX + name]

    def ensure(self, name: str, indexes: Sequence[IndexModel]) -> None:
        """Make indexes that are not there yet; each module of rows says its own when the server opens."""
        if indexes:
            self.rows(name).create_indexes(list(indexes))

    def close(self) -> None:
        self.client.close()
