"""What a bulk of writes was refused."""

from __future__ import annotations

from pymongo.errors import BulkWriteError

from fhir_server.storage.document import DUPLICATE_KEY


def row_errors(error: BulkWriteError) -> list[int]:
    """The rows that a unique index refused; any other failure of the bulk is raised."""
    details = error.details or {}
    rows = []
    for row in details.get("writeErrors", []):
        if row["code"] != DUPLICATE_KEY:
            raise error
        rows.append(int(row["index"]))
    if details.get("writeConcernErrors"):
        raise error
    return rows
