"""The loaded server as the scenarios see it: its HTTP side for preparing, its database for samples and baselines."""

from __future__ import annotations

import http.client
import json
from typing import Any

from pymongo import MongoClient

from fhir_server.storage.rows import WATCH

Document = dict[str, Any]
COPY = "healthsphere_bench"
HISTORY = "_history"
#: The parts of a recorded command that say what is asked; the rest belongs to its session.
_ASKED = (
    *("find", "filter", "sort", "limit", "projection", "hint", "batchSize", "singleBatch", "collation"),
    *("aggregate", "pipeline", "cursor", "count", "query", "distinct", "key"),
)


class Target:
    """A server with data in it. `uri` is the address of its MongoDB, `database` the name of its database."""

    def __init__(self, port: int, uri: str, database: str = "healthsphere") -> None:
        self.port = port
        self.uri = uri
        self.name = database
        self.token = ""
        self._client = MongoClient[Document](uri, w="majority", journal=True)
        self.database = self._client[database]

    def close(self) -> None:
        self._client.close()

    def version(self) -> str:
        """The version of MongoDB."""
        return str(self._client.admin.command("buildInfo")["version"])

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One exchange with the server, for preparing; `path` is below the FHIR base.

        With `token`, it is sent with that access token.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Content-Type": "application/fhir+json"} if body is not None else {}
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
            connection.request(method, f"/fhir{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def store(self, batch: bytes) -> None:
        """Send a batch Bundle of which every entry must succeed.

        Raises:
            RuntimeError: one did not.
        """
        status, body = self.request("POST", "", batch)
        entries = json.loads(body).get("entry", []) if status == 200 else []
        refused = [entry for entry in entries if not entry["response"]["status"].startswith("20")]
        if status != 200 or refused:
            raise RuntimeError(f"The server refused what the benchmark prepares: {status} {refused or body[:500]!r}")

    def sample(self, collection: str, count: int, **fields: int) -> list[Document]:
        """Some current documents, spread over the collection."""
        rows = self.database[collection].aggregate(
            [
                {"$match": {"d": {"$exists": False}}},
                {"$sample": {"size": count}},
                *([{"$project": fields}] if fields else []),
            ]
        )
        return list(rows)

    def commands_of(self, path: str) -> list[Document]:
        """The database commands that a GET causes, as MongoDB's profiler records them."""
        self.database.command("profile", 2)
        status, body = self.request("GET", path)
        self.database.command("profile", 0)
        if status != 200:
            raise RuntimeError(f"GET {path} answered {status}: {body[:500]!r}")
        asked = {"appName": "healthsphere", "command.comment": {"$ne": WATCH}}
        recorded = self.database["system.profile"].find(asked).sort("ts", 1)
        commands = [{name: row["command"][name] for name in row["command"] if name in _ASKED} for row in recorded]
        self.database["system.profile"].drop()
        return [command for command in commands if command]

    def copied(self, collection: str, documents: list[Document]) -> None:
        """Have a collection in the database of the baselines, with the same indexes and these documents."""
        copy = self._client[COPY]
        if collection not in copy.list_collection_names():
            for name, index in self.database[collection].index_information().items():
                if name != "_id_":
                    options = {k: v for k, v in index.items() if k not in ("v", "key", "ns")}
                    copy[collection].create_index(index["key"], name=name, **options)
        for document in documents:
            copy[collection].replace_one({"_id": document["_id"]}, document, upsert=True)
