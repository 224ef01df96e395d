"""The table of interactions as paths: each row once for the system, or once for each resource type.

Spec: https://spec.openapis.org/oas/v3.1.1.html#path-item-object, https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fhir_server.http.openapi.contents import body, response
from fhir_server.http.openapi.parameters import member_parameter, reference_to, search_parameters_of
from fhir_server.interactions.registration import Interaction
from fhir_server.search.named import QUERIES
from profiles.registry import Registry

Json = dict[str, Any]

SYSTEM = "System"

#: Stands for the resource type that an address names.
TYPE = "{type}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is said of an interaction beside its method and address.

    Attributes:
        summary: one line; `{type}` is the resource type
        answers: by status, the name of the answer
        query, headers: the parameters that it looks at, beside criteria
        body: the name of the body
        searches: whether the query has the parameters of a search
        open: whether it needs no access token
    """

    summary: str
    answers: dict[str, str]
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: str | None = None
    searches: bool = False
    open: bool = False


_PARTS = ("_summary", "_elements")
_HELD = ("If-None-Match", "If-Modified-Since")
_PAGE = {"200": "Page"}
_CHANGED = {"200": TYPE, "201": TYPE}

#: By the name of what carries an interaction out.
KINDS: dict[str, Kind] = {
    "capabilities": Kind("What the server can do", {"200": "CapabilityStatement"}, query=("mode",), open=True),
    "submit": Kind(
        "Carry out a batch or a transaction", {"200": "Bundle"}, headers=("Prefer", "X-Provenance"), body="Bundle"
    ),
    "history": Kind("Versions, the newest first", _PAGE, query=("_since", "_at", "_count")),
    "search_system": Kind("Search several types", _PAGE, headers=("Prefer",), searches=True),
    "search_type": Kind("Search {type}", _PAGE, headers=("Prefer",), searches=True),
    "search_compartment": Kind("Search what belongs to a {type}", _PAGE, headers=("Prefer",), searches=True),
    "read": Kind("Read a {type}", {"200": TYPE, "304": "NotModified"}, query=_PARTS, headers=_HELD),
    "vread": Kind("Read a version of a {type}", {"200": TYPE, "304": "NotModified"}, query=_PARTS, headers=_HELD),
    "create": Kind(
        "Create a {type}", {"201": TYPE, "200": TYPE}, headers=("If-None-Exist", "Prefer", "X-Provenance"), body=TYPE
    ),
    "update": Kind(
        "Update a {type}, or create it under this id",
        _CHANGED,
        headers=("If-Match", "If-None-Match", "Prefer", "X-Provenance"),
        body=TYPE,
    ),
    "patch": Kind("Patch a {type}", {"200": TYPE}, headers=("If-Match", "Prefer", "X-Provenance"), body="Patch"),
    "delete": Kind(
        "Delete a {type}",
        {"204": "NoContent", "200": "OperationOutcome"},
        query=("_cascade",),
        headers=("If-Match", "X-Cascade", "Prefer", "X-Provenance"),
    ),
    "update_conditional": Kind(
        "Update the {type} that matches, or create it",
        _CHANGED,
        ("criteria",),
        ("If-Match", "Prefer", "X-Provenance"),
        TYPE,
    ),
    "patch_conditional": Kind(
        "Patch the {type} that matches", {"200": TYPE}, ("criteria",), ("Prefer", "X-Provenance"), "Patch"
    ),
    "delete_conditional": Kind(
        "Delete the {type} that matches",
        {"204": "NoContent", "200": "OperationOutcome"},
        ("criteria", "_cascade"),
        ("X-Cascade", "Prefer", "X-Provenance"),
    ),
}


def paths_of(table: tuple[Interaction, ...], registry: Registry, types: tuple[str, ...]) -> dict[str, Json]:
    """The path items of all interactions, those of the system first, then type by type."""
    paths: dict[str, Json] = {}
    for row in table:
        if not row.shape.startswith(TYPE):
            _add(paths, f"/{row.shape}", row, SYSTEM, registry)
    for name in types:
        for row in table:
            if row.shape.startswith(TYPE) and _has(name, row, registry):
                _add(paths, f"/{row.shape.replace(TYPE, name)}", row, name, registry)
    return paths


def kind_of(row: Interaction) -> Kind:
    """What is said of a row; of one that nothing is known of, what its function says of itself."""
    known = KINDS.get(_name(row))
    return known or Kind((row.handle.__doc__ or _name(row)).splitlines()[0], {"200": "Resource"})


def _name(row: Interaction) -> str:
    return str(getattr(row.handle, "__name__", row.code))


def _has(resource_type: str, row: Interaction, registry: Registry) -> bool:
    return _name(row) != "search_compartment" or resource_type in registry.compartments


def _add(paths: dict[str, Json], path: str, row: Interaction, tag: str, registry: Registry) -> None:
    item = paths.setdefault(path, {"parameters": [*_in_path(path, tag, registry), *_shown()]})
    kind = kind_of(row)
    by_post = row.method == "POST" and kind.searches
    resource_type = None if tag == SYSTEM else tag
    told: Json = {
        "tags": [tag],
        "operationId": _operation_id(row, tag, shared=row.method.lower() in item),
        "summary": _summary(kind, tag) + (" by POST" if by_post else ""),
        "parameters": [*map(reference_to, _query(kind, resource_type, path, registry, by_post))],
        "responses": dict(_answers(kind, tag)),
    }
    if kind.body or by_post:
        told["requestBody"] = body("Search" if by_post else (kind.body or "").replace(TYPE, tag))
    if kind.open:
        told["security"] = []
    if kind.searches and (named := named_queries(resource_type)):
        told["description"] = named
    item[row.method.lower()] = told


def named_queries(resource_type: str | None) -> str:
    """What `_query` can name in searches of a type, with the parameters that only these have."""
    rows = [
        f"`_query={query.code}`"
        + (f" (with {', '.join(f'`{p.name}`' for p in query.parameters)})" if query.parameters else "")
        + f": {query.meaning}."
        for query in QUERIES
        if query.type == resource_type
    ]
    return " ".join(rows)


def _operation_id(row: Interaction, tag: str, *, shared: bool) -> str:
    """A name for the row at a type: its code, or that of its function where several rows share method and address."""
    last = row.shape.rpartition("/")[2]
    code = _name(row) if shared or not row.code else row.code
    by_post = ["post"] if last == "_search" else []
    all_types = ["all"] if row.shape == "{type}/{id}/_search" else []
    return "-".join((tag, code.replace("_", "-"), *by_post, *all_types))


def _summary(kind: Kind, tag: str) -> str:
    article = "an" if tag[0] in "AEIO" else "a"
    return kind.summary.replace(f"a {TYPE}", f"{article} {tag}").replace(TYPE, tag)


def _in_path(path: str, tag: str, registry: Registry) -> Iterator[Json]:
    for name in ("id", "vid"):
        if f"{{{name}}}" in path:
            yield reference_to(name)
    if "{member}" in path:
        yield member_parameter(tuple(registry.compartments[tag].types))


def _shown() -> list[Json]:
    return [reference_to("_format"), reference_to("_pretty")]


def _query(kind: Kind, resource_type: str | None, path: str, registry: Registry, by_post: bool) -> Iterator[str]:
    yield from kind.query
    yield from kind.headers
    if kind.searches and not by_post:
        # Of a compartment, what all types have in common; what its members have besides depends on which are asked for.
        yield from search_parameters_of(None if "{member}" in path else resource_type, registry)


def _answers(kind: Kind, tag: str) -> Iterator[tuple[str, Json]]:
    for status, name in kind.answers.items():
        content = name == TYPE and tag == "Binary" and status == "200"
        yield status, response("Content" if content else name.replace(TYPE, tag))
    yield "default", response("Problem")
