"""The indexes of a type's collection: made, and made anew when others are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from fhir_server.model.errors import UnavailableError
from fhir_server.storage.database import translated
from fhir_server.storage.document import BROKEN_GLASS, HISTORY, LOCKS

#: Begins the names of indexes that another process may want, and this one not know of yet: they are left alone.
OWN_INDEX = "own:"

#: MongoDB's code for entries that do not fit a compound index.
PARALLEL_ARRAYS = 171


#: A lock row is needed for the moment of one transaction; an hour later it is litter.
LOCK_LITTER_AFTER_S = 3600


class IndexLike(Protocol):
    """An index that a type wants: see `search.indexes`."""

    @property
    def name(self) -> str: ...
    @property
    def keys(self) -> Sequence[tuple[str, int | str]]: ...
    @property
    def partial(self) -> Mapping[str, Any] | None: ...


async def make_base_indexes(database: Any) -> None:
    """Make the indexes of what the store keeps beside the types."""
    with translated():
        await database[HISTORY].create_indexes(
            [
                IndexModel([("y", 1), ("i", 1), ("v", 1)], name="instance"),
                IndexModel([("y", 1), ("t", 1), ("i", 1), ("v", 1)], name="type"),
                IndexModel([("t", 1), ("y", 1), ("i", 1), ("v", 1)], name="system"),
            ]
        )
        await database[LOCKS].create_indexes(
            [IndexModel([("t", 1)], name="litter", expireAfterSeconds=LOCK_LITTER_AFTER_S)]
        )
        await database[BROKEN_GLASS].create_indexes(
            [IndexModel([("ends", -1)], name="open", partialFilterExpression={"open": True})]
        )


async def make_indexes(collection: Any, wanted: Sequence[IndexLike]) -> None:
    """Make the indexes of a type what they should be: an earlier version of this server may have made others."""
    specs = {spec.name: spec for spec in wanted}
    with translated():
        for name, found in (await collection.index_information()).items():
            if name != "_id_" and _is_other(name, found, specs.get(name)):
                await collection.drop_index(name)
        try:
            await collection.create_indexes([_model(spec) for spec in wanted])
        except OperationFailure as error:
            if error.code != PARALLEL_ARRAYS:
                raise
            raise UnavailableError(
                f"The search index of {collection.name} was made by another version of this server: "
                "stop the server and run `healthsphere reindex`.",
                key="HS-STORE-REINDEX",
            ) from error


async def drop_own(collection: Any, wanted: Sequence[IndexLike]) -> None:
    """Drop the indexes of the operator's own search parameters that are no longer wanted."""
    names = {spec.name for spec in wanted}
    with translated():
        for name in await collection.index_information():
            if name.startswith(OWN_INDEX) and name not in names:
                await collection.drop_index(name)


def _is_other(name: str, found: Mapping[str, Any], spec: IndexLike | None) -> bool:
    if spec is None:
        return not name.startswith(OWN_INDEX)
    keys = [tuple(key) for key in found["key"]]
    return list(spec.keys) != keys or (spec.partial or {}) != found.get("partialFilterExpression", {})


def _model(spec: IndexLike) -> IndexModel:
    partial = {"partialFilterExpression": dict(spec.partial)} if spec.partial else {}
    return IndexModel(list(spec.keys), name=spec.name, **partial)
