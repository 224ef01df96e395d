"""What goes wrong in a query, in GraphQL's form with FHIR's issues.

Spec: http://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

from typing import Any

from graphql.language import Node, get_location

from fhir_server.model.errors import FhirError, InvalidError

Json = dict[str, Any]
Path = tuple[str | int, ...]


class QueryError(Exception):
    """A fault at a place of the query."""

    def __init__(self, cause: FhirError, node: Node | None = None, path: Path = ()) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.node = node
        self.path = path

    def as_json(self) -> Json:
        row: Json = {"message": str(self.cause)}
        if self.node is not None and self.node.loc is not None:
            place = get_location(self.node.loc.source, self.node.loc.start)
            row["locations"] = [{"line": place.line, "column": place.column}]
        if self.path:
            row["path"] = list(self.path)
        row["extensions"] = {"resource": self.cause.outcome()}
        return row


def refused(message: str, node: Node | None = None, path: Path = (), *, key: str = "HS-GRAPHQL-QUERY") -> QueryError:
    """A query that cannot be carried out as it stands: 400."""
    return QueryError(InvalidError(message, key=key), node, path)


def too_costly(message: str) -> QueryError:
    return QueryError(InvalidError(message, code="too-costly", key="HS-GRAPHQL-LIMIT"))
