"""The changes of resources, as MongoDB's change stream tells them, and the same read from the collections.

The stream is the database's oplog, filtered there: writers do nothing for it. It goes on from a position as long as the
oplog reaches back so far; for what is older, `since` reads the current collections and the history in the order of
moments. Both tell every version, also those that were replaced meanwhile.

See https://www.mongodb.com/docs/manual/changeStreams/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from fhir_server.model.errors import UnavailableError
from fhir_server.storage.database import translated
from fhir_server.storage.document import FIELDS, HISTORY, Version, past_version_of, version_of
from fhir_server.storage.rows import NOW, WATCH, Row, Rows

#: Beside the leases of those who follow: `MARK`, a row with a number `n` that stands in every stream when it grows.
FEED = "_feed"
MARK = "mark"

#: For so long the database holds a question for the next change open when there is none.
AWAIT_MS = 5000

#: What the database sends at once.
BATCH = 500

#: The index entries are of no use here, and are the larger half.
SENT = {
    "operationType": 1,
    "clusterTime": 1,
    "ns.coll": 1,
    "updateDescription.updatedFields.n": 1,
    **{f"fullDocument.{name}": 1 for name in ("_id", "n", *FIELDS)},
}


class HistoryLostError(Exception):
    """The stream cannot go on from a token: the oplog no longer reaches back to it, or holds what cannot be sent."""


class Key(NamedTuple):
    """Names a version, in the order in which `since` tells them."""

    moment_us: int
    type: str
    id: str
    version: int


class Position(NamedTuple):
    """A place in the stream: the cluster's time, and within it, where a transaction made several entries, the token.

    A token alone would not do: the database goes on from one only where the stream still has the entry that it names,
    which those who ask for other types have not. Tokens can be compared, as the documentation says.
    """

    seconds: int
    increment: int
    token: str

    @property
    def moment_us(self) -> int:
        """What was committed before this second stands before it in the stream."""
        return self.seconds * 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What a stream tells next.

    Attributes:
        position: where it stands
        version: of a resource that was written; without its index entries
        mark: the number that the row `MARK` has now; one of the two is there
    """

    position: Position
    version: Version | None = None
    mark: int | None = None


class Stream:
    """An open change stream."""

    def __init__(self, stream: Any, after: Position) -> None:
        self._stream = stream
        self._after = after

    async def next(self) -> Entry:
        """The next entry, as soon as there is one.

        Raises:
            HistoryLostError: there is no going on from here.
            UnavailableError: the database does not answer.
        """
        while True:
            with _told():
                event = await self._stream.try_next()
                if event is None and not self._stream.alive:
                    raise HistoryLostError("the database was dropped")
            if event is not None and (entry := _entry_of(event)).position > self._after:
                return entry


class ChangesStream:
    """The changes of one database."""

    def __init__(self, database: Any) -> None:
        self._database = database

    async def now(self) -> Position:
        """The position behind which is all that is written after this call, and nothing from before it."""
        with translated():
            async with self._database.client.start_session() as session:
                await self._database.command("ping", session=session, comment=WATCH)
                time: Timestamp = session.operation_time
        return Position(time.time, time.inc + 1, "")

    @asynccontextmanager
    async def follow(self, types: frozenset[str], after: Position) -> AsyncIterator[Stream]:
        """The stream of some types, or of all when none is named, behind a position.

        Raises:
            HistoryLostError: the oplog does not reach back so far.
            UnavailableError: the database does not answer.
        """
        with _told():
            stream = await self._database.watch(
                [{"$match": _wanted(types)}, {"$project": SENT}],
                start_at_operation_time=Timestamp(after.seconds, after.increment),
                max_await_time_ms=AWAIT_MS,
                batch_size=BATCH,
                comment=WATCH,
            )
        try:
            yield Stream(stream, after)
        finally:
            await stream.close()

    async def since(self, types: frozenset[str], after: Key, limit: int) -> list[Key]:
        """The versions that follow a key, at most `limit`: read from the collections, not from the stream."""
        names = sorted(types) if types else await self._names()
        found: set[Key] = set()
        with translated():
            # The current ones first: one that is replaced meanwhile is then found in the history, or twice.
            for name in names:
                cursor = self._database[name].find(
                    _current_after(name, after),
                    {"t": 1, "v": 1},
                    sort=[("t", 1), ("_id", 1)],
                    limit=limit,
                    comment=WATCH,
                )
                found.update(Key(d["t"], name, d["_id"], d["v"]) for d in await cursor.to_list())
            for name in names:
                cursor = self._database[HISTORY].find(
                    _past_after(name, after),
                    {"t": 1, "i": 1, "v": 1},
                    sort=[("t", 1), ("i", 1), ("v", 1)],
                    limit=limit,
                    comment=WATCH,
                )
                found.update(Key(d["t"], name, d["i"], d["v"]) for d in await cursor.to_list())
        return sorted(found)[:limit]

    async def versions(self, keys: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], Version]:
        """Versions by `(type, id, version)`, current or not; what was erased is not among them."""
        found: dict[tuple[str, str, int], Version] = {}
        by_type: dict[str, list[str]] = {}
        for name, resource_id, _ in keys:
            by_type.setdefault(name, []).append(resource_id)
        with translated():
            for name, ids in by_type.items():
                cursor = self._database[name].find({"_id": {"$in": ids}}, FIELDS, comment=WATCH)
                found.update({(name, d["_id"], d["v"]): version_of(name, d) for d in await cursor.to_list()})
            past = [f"{name}/{i}/{v}" for name, i, v in keys if (name, i, v) not in found]
            if past:
                cursor = self._database[HISTORY].find({"_id": {"$in": past}}, comment=WATCH)
                found.update({(d["y"], d["i"], d["v"]): past_version_of(d) for d in await cursor.to_list()})
        return {key: found[key] for key in keys if key in found}

    async def mark(self, *, older_s: float = 0.0) -> int:
        """Let the number of the mark grow: it stands in the stream behind all that was written before; the number.

        Args:
            older_s: only if it has not grown for so long
        """
        rows = Rows(self._database[FEED])
        old = {"$expr": {"$lte": ["$at", {"$subtract": [NOW, round(older_s * 1000)]}]}} if older_s else {}
        more = {"n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}, "at": NOW}
        row = await rows.change(MARK, old, more, comment=WATCH)
        if row is None and not older_s:
            await rows.make(MARK, {"n": 0}, comment=WATCH)
            row = await rows.change(MARK, {}, more, comment=WATCH)
        return int(row["n"]) if row is not None else 0

    async def marked(self) -> int:
        """The number of the mark as it is."""
        return int((await Rows(self._database[FEED]).get(MARK) or {}).get("n", 0))

    async def _names(self) -> list[str]:
        with translated():
            names = await self._database.list_collection_names(filter={"name": {"$not": {"$regex": "^[_a-z]"}}})
        return sorted(names)


def _entry_of(event: Row) -> Entry:
    time: Timestamp = event["clusterTime"]
    position = Position(time.time, time.inc, event["_id"]["_data"])
    name, document = event["ns"]["coll"], event.get("fullDocument")
    if name == FEED:
        row = document or event["updateDescription"]["updatedFields"]
        return Entry(position, mark=row.get("n", 0))
    return Entry(position, version=version_of(name, document or {}))


def _wanted(types: frozenset[str]) -> Row:
    """Selects versions of resources that were made, and the mark.

    An update in place changes what is indexed, and a removal erases (`Store.set_entries`, `Store.erase`): neither makes
    a version.
    """
    named: Row = {"$in": sorted(types)} if types else {"$regex": "^[A-Z]"}
    return {
        "$or": [
            {"operationType": {"$in": ["insert", "replace"]}, "ns.coll": named},
            {"operationType": {"$in": ["insert", "replace", "update"]}, "ns.coll": FEED, "documentKey._id": MARK},
        ]
    }


def _current_after(name: str, after: Key) -> Row:
    later: Row = {"t": {"$gt": after.moment_us}}
    if name < after.type:
        return later
    if name > after.type:
        return {"t": {"$gte": after.moment_us}}
    same = {"t": after.moment_us, "_id": after.id, "v": {"$gt": after.version}}
    return {"$or": [later, {"t": after.moment_us, "_id": {"$gt": after.id}}, same]}


def _past_after(name: str, after: Key) -> Row:
    later: Row = {"y": name, "t": {"$gt": after.moment_us}}
    if name < after.type:
        return later
    if name > after.type:
        return {"y": name, "t": {"$gte": after.moment_us}}
    here = {"y": name, "t": after.moment_us}
    return {"$or": [later, {**here, "i": {"$gt": after.id}}, {**here, "i": after.id, "v": {"$gt": after.version}}]}


@contextmanager
def _told() -> Iterator[None]:
    """Turn the driver's failures into the two kinds that a follower acts on."""
    try:
        yield
    except OperationFailure as error:
        # Whatever it is (the oplog was cut off, the token means nothing here, an event is larger than a document may
        # be): the driver has tried again what can be tried again. The collections tell the same.
        raise HistoryLostError(f"{type(error).__name__} {error.code}") from error
    except PyMongoError as error:
        raise UnavailableError(
            "The database does not answer; try again.", key="HS-STORE-UNAVAILABLE", headers={"Retry-After": "2"}
        ) from error
