"""The shape of a stored version, shared by the current collections and the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Blob:
    """A large content that is stored beside its resource: see `storage.blobs`.

    Attributes:
        id: names it
        size: in bytes
        sha1, sha256: digests of it, as hexadecimal digits
    """

    id: str
    size: int
    sha1: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource as it is stored.

    Attributes:
        type: the resource type, which names the collection
        id: the logical id
        version: 1 for the first, one more for each change
        moment_us: `meta.lastUpdated`, microseconds since 1970 UTC
        method: the HTTP method that made it: POST, PUT, PATCH or DELETE
        body: the resource's JSON; None when this version is a deletion
        entries: the index entries; empty for a deletion, and for versions that were read
        contained: rows for the index, one for each contained resource; empty as the entries are
        token: names the write that made the version, so that a writer knows its own
        blob: of a Binary, where its `data` is when that is too large for the body
    """

    type: str
    id: str
    version: int
    moment_us: int
    method: str
    body: bytes | None
    token: bytes = b""
    entries: dict[str, Any] = field(default_factory=dict)
    blob: Blob | None = None
    contained: list[dict[str, Any]] = field(default_factory=list)

    @property
    def deleted(self) -> bool:
        return self.body is None

    def current_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "_id": self.id,
            "v": self.version,
            "t": self.moment_us,
            "m": self.method,
            "w": self.token,
        }
        if self.body is None:
            document["d"] = True
        else:
            document["r"] = self.body
            document["x"] = self.entries
            if self.contained:
                document["c"] = self.contained
        if self.blob is not None:
            document["b"] = blob_row(self.blob)
        return document

    def history_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "_id": f"{self.type}/{self.id}/{self.version}",
            "y": self.type,
            "i": self.id,
            "v": self.version,
            "t": self.moment_us,
            "m": self.method,
            "w": self.token,
        }
        if self.body is None:
            document["d"] = True
        else:
            document["r"] = self.body
        if self.blob is not None:
            document["b"] = blob_row(self.blob)
        return document


def index_change(entries: dict[str, Any], contained: list[dict[str, Any]]) -> dict[str, Any]:
    """The change of a current document that gives it other index entries."""
    if contained:
        return {"$set": {"x": entries, "c": contained}}
    return {"$set": {"x": entries}, "$unset": {"c": 1}}


def blob_row(blob: Blob) -> dict[str, Any]:
    return {"i": blob.id, "n": blob.size, "s1": blob.sha1, "s256": blob.sha256}


def blob_of(document: dict[str, Any]) -> Blob | None:
    row = document.get("b")
    return None if row is None else Blob(row["i"], row["n"], row["s1"], row["s256"])


#: Where earlier versions of every type live, and where the rows stand that serialize conditional interactions.
HISTORY = "_history"
LOCKS = "_locks"

#: The GridFS bucket of blobs; where blobs are named that no version names yet.
BLOBS = "_blobs"
UPLOADS = "_uploads"

#: Rows of patients' records that were opened in an emergency (see `policies.glass`).
BROKEN_GLASS = "_broken_glass"

#: MongoDB's code for what a unique index refuses.
DUPLICATE_KEY = 11000

#: What a read fetches: all but the index entries.
FIELDS = {"v": 1, "t": 1, "m": 1, "w": 1, "r": 1, "d": 1, "b": 1}


def version_of(resource_type: str, document: dict[str, Any]) -> Version:
    """The version that a document of a current collection holds."""
    return Version(
        resource_type,
        document["_id"],
        document["v"],
        document["t"],
        document.get("m", "PUT"),
        document.get("r"),
        document.get("w", b""),
        blob=blob_of(document),
    )


def past_version_of(document: dict[str, Any]) -> Version:
    """The version that a document of the history holds."""
    return Version(
        document["y"],
        document["i"],
        document["v"],
        document["t"],
        document["m"],
        document.get("r"),
        document["w"],
        blob=blob_of(document),
    )
