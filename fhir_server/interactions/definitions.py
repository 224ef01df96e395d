"""The definitions that this server carries: where they are read, how searches find them, and what is read there.

They are no stored resources, so they have no versions, and histories do not find them. A stored one of the same id goes
before. Operations have the address at which they are read as their canonical URL; profiles, extensions and their codes
stand in data, and so have one that is the same on every server.

Spec: https://hl7.org/fhir/R4/operationdefinition.html, https://hl7.org/fhir/R4/structuredefinition.html,
https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

from fhir_server.interactions.context import Context
from fhir_server.interactions.explain import found_by
from fhir_server.interactions.searchset import How
from fhir_server.model import codec
from fhir_server.model.exchange import Request
from fhir_server.repository.search import Found
from fhir_server.search.controls import CURSOR
from fhir_server.search.index import Indexer
from fhir_server.search.matching import UnknownConditionError, predicate_of
from fhir_server.search.page import mangled
from profiles.operations import OWN, own_definitions
from profiles.registry import own_definitions as own_of_type

TYPE: Final = "OperationDefinition"

#: The types of which this server carries definitions that searches find.
CARRIED: Final = frozenset({"StructureDefinition", "CodeSystem", "ValueSet"})

#: Begins the cursors of pages behind all that is stored; what follows is how many came before.
_BEHIND: Final = "carried."


Rows = list[dict[str, Any]]

#: By indexer and type, the rows that were made, and with which revision of the search parameters.
_made: WeakKeyDictionary[Indexer, dict[str, tuple[int, Rows]]] = WeakKeyDictionary()


def address_of(definition: str, base_url: str) -> str:
    """The canonical URL of a definition; of an operation that this server carries, where it is read."""
    return f"{base_url}/{TYPE}/{definition.removeprefix(OWN)}" if definition.startswith(OWN) else definition


@lru_cache(maxsize=512)
def carried(resource_type: str, resource_id: str, base_url: str) -> bytes | None:
    """The definition that this server carries under an id, as JSON; None where it carries none."""
    if resource_type == TYPE:
        definition = own_definitions().get(resource_id)
        url = address_of(definition["url"], base_url) if definition else ""
        return None if definition is None else codec.encode({**definition, "url": url})
    if resource_type not in CARRIED:
        return None
    found = next((one for one in own_of_type(resource_type) if one["id"] == resource_id), None)
    return None if found is None else codec.encode(found)


async def found_with_carried(context: Context, request: Request, how: How) -> Found:
    """A page of what is stored of a type, or of what this server carries, which comes behind that, by its ids.

    Raises:
        InvalidError: 400; as for any search.
    """
    (resource_type, *_), pairs = request.path, request.parameters
    behind = next((v for name, v in pairs if name == CURSOR and v.startswith(_BEHIND)), None)
    if behind is not None:
        pairs = [pair for pair in pairs if pair != (CURSOR, behind)]
    found = await found_by(context, request, lambda searcher: searcher.search(resource_type, pairs, **how))
    search, page = found.search, found.page
    if search.looks_inside or search.checks:  # these ask about what refers to them, which nothing does
        return found
    rows = await _matching(context, resource_type, pairs, how)
    total = None if page.total is None else page.total + len(rows)
    if search.only_total or (behind is None and page.next is not None):
        return replace(found, page=replace(page, total=total))
    start = 0 if behind is None else _start_of(behind)
    before = page.rows if behind is None else []
    end = start + search.count - len(before)
    previous = page.previous if behind is None else _cursor(start - search.count) if start >= search.count else None
    page = replace(
        page,
        rows=[*before, *rows[start:end]],
        previous=previous,
        next=_cursor(end) if end < len(rows) else None,
        total=total,
    )
    return replace(found, page=page, search=search if behind is None else replace(search, cursor=behind))


def _cursor(start: int) -> str:
    return f"{_BEHIND}{start}"


def _start_of(cursor: str) -> int:
    digits = cursor.removeprefix(_BEHIND)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
        raise mangled()
    return int(digits)


async def _matching(context: Context, resource_type: str, pairs: list[tuple[str, str]], how: How) -> Rows:
    """What this server carries and a search selects, as rows of a page; what is stored under the same id is not."""
    _, condition = await context.searcher.understood(resource_type, pairs, **how)
    try:
        meets = predicate_of(condition)
        rows = [row for row in await _rows(context, resource_type) if meets(row)]
    except UnknownConditionError:  # what cannot be judged is not found
        return []
    if not rows:
        return []
    ids = {"_id": {"$in": [row["_id"] for row in rows]}}
    stored = await context.searcher.store.find(
        resource_type, ids, sort=[("_id", 1)], limit=len(rows), fields={"_id": 1}
    )
    hidden = {row["_id"] for row in stored}
    return [row for row in rows if row["_id"] not in hidden]


async def _rows(context: Context, resource_type: str) -> Rows:
    """The definitions of a type as they would be stored, with their index entries by the parameters in force."""
    indexer = context.repository.indexer
    revision, rows = _made.get(indexer, {}).get(resource_type, (-1, []))
    if revision != context.registry.revision:
        revision = context.registry.revision
        rows = await asyncio.to_thread(_indexed, indexer, resource_type)
        _made.setdefault(indexer, {})[resource_type] = revision, rows
    return rows


def _indexed(indexer: Indexer, resource_type: str) -> Rows:
    return [
        {"_id": one["id"], "v": 1, "t": 0, "x": indexer.entries_of(one), "r": codec.encode(one)}
        for one in own_of_type(resource_type)
    ]
