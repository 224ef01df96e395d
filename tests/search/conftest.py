"""A MongoDB for the tests of search: what HEALTHSPHERE_TEST_MONGODB_URI names, or one started for the session."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from bson.decimal128 import Decimal128
from pymongo import IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from fhir_server.search.indexes import IndexSpec, indexes_of
from profiles.registry import registry

START_TIMEOUT_S = 30


class _Decimals(TypeCodec):
    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Decimal) -> Decimal128:
        return Decimal128(value)

    def transform_bson(self, value: Decimal128) -> Decimal:
        return value.to_decimal()


def _mongod() -> str:
    found = shutil.which("mongod")
    if found:
        return found
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if binary.exists():
            return str(binary)
    raise RuntimeError("no mongod: set HEALTHSPHERE_TEST_MONGODB_URI, or put one on the PATH")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    uri = os.environ.get("HEALTHSPHERE_TEST_MONGODB_URI")
    if uri:
        yield uri
        return
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="healthsphere-search-") as folder:
        command = [_mongod(), "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--quiet"]
        log = [f"--logpath={folder}/mongod.log", "--wiredTigerCacheSizeGB=0.25"]
        process = subprocess.Popen([*command, *log])
        try:
            uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
            with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=START_TIMEOUT_S * 1000) as client:
                client.admin.command("ping")
            yield uri
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="session")
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    options: CodecOptions[dict[str, Any]] = CodecOptions(type_registry=TypeRegistry([_Decimals()]))
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = f"search_{os.getpid()}_{time.time_ns()}"
        yield client.get_database(name, codec_options=options)
        client.drop_database(name)


class Library:
    """A store as `page_of` sees it, counting its commands."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self.database = database
        self.commands: list[str] = []
        self.pipelines: list[list[Mapping[str, Any]]] = []
        self._filled: set[str] = set()

    def fill(self, resource_type: str, documents: Sequence[dict[str, Any]]) -> Collection[dict[str, Any]]:
        """A collection with its indexes and only these documents."""
        collection = self.database[resource_type]
        if resource_type in self._filled:  # making some fifty indexes anew takes longer than any test
            collection.delete_many({})
        else:
            collection.create_indexes([_model(spec) for spec in indexes_of(resource_type, registry())])
            self._filled.add(resource_type)
        if documents:
            collection.insert_many(documents)
        self.commands.clear()
        return collection

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]],
        limit: int,
        fields: Mapping[str, Any],
        shared: bool = False,
    ) -> list[dict[str, Any]]:
        self.commands.append("find")
        return list(self.database[resource_type].find(filter, fields, sort=list(sort), limit=limit))

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]:
        self.commands.append("aggregate")
        self.pipelines.append(list(pipeline))
        return list(self.database[resource_type].aggregate(list(pipeline)))

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        self.commands.append("count")
        return self.database[resource_type].count_documents(filter, **({"limit": limit} if limit else {}))

    async def estimate(self, resource_type: str) -> int:
        self.commands.append("estimate")
        return self.database[resource_type].estimated_document_count()


def _model(spec: IndexSpec) -> IndexModel:
    partial = {"partialFilterExpression": spec.partial} if spec.partial else {}
    return IndexModel(list(spec.keys), name=spec.name, **partial)


@pytest.fixture(scope="session")
def library(database: Database[dict[str, Any]]) -> Library:
    return Library(database)
