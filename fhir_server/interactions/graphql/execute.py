"""Carrying out a query over resources as they are stored.

Spec: http://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from graphql.language import FieldNode, SelectionNode

from fhir_server.interactions.graphql.document import MOST_LEVELS, Query
from fhir_server.interactions.graphql.fault import Path, QueryError, refused, too_costly
from fhir_server.interactions.graphql.output import Output
from fhir_server.interactions.graphql.reach import Listed, Reach, is_gone
from fhir_server.interactions.graphql.select import Asked, Selector
from fhir_server.interactions.graphql.shape import Field, fields_of, shape_of
from fhir_server.model.errors import FhirError
from profiles.registry import Registry

Json = dict[str, Any]
T = TypeVar("T")

SIMPLE_DIRECTIVES = frozenset({"skip", "include", "flatten", "first", "singleton", "slice"})
CONNECTION_FIELDS = ("count", "offset", "pagesize", "first", "previous", "next", "last")
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Here:
    """Where in the answer, and in which resource, the execution stands.

    `suffix` is what @slice adds to names; `flat` says that the fields go to an object above, where they become lists.
    """

    resource: Json
    path: Path = ()
    suffix: str = ""
    flat: bool = False
    level: int = 0

    def at(self, *steps: str | int) -> Here:
        return replace(self, path=(*self.path, *steps))


class Executor:
    """Carries out one query. `errors` are faults that left a hole in the answer and no more."""

    def __init__(self, query: Query, reach: Reach, registry: Registry) -> None:
        self._query = query
        self._reach = reach
        self._registry = registry
        self._selector = Selector(query, registry)
        self.errors: list[QueryError] = []

    async def instance(self, resource: Json) -> Json:
        """The answer about one resource."""
        selections = tuple(self._query.selections.selections)
        return await self._object(selections, resource, str(resource["resourceType"]), Here(resource))

    async def system(self) -> Json:
        """The answer about the whole server: its fields name types and searches."""
        output = Output()
        here = Here({})
        for asked in self._selector.asked(tuple(self._query.selections.selections), "Query"):
            name = asked.name
            if name == "__typename":
                output.add(asked.key, ["Query"], many=False)
            elif self._registry.is_resource_type(name):
                value = await self._one(asked, here.at(asked.key))
                output.add(asked.key, [value], many=False)
            elif not await self._search_field(asked, output, here):
                raise refused(
                    f"{name!r} is no field of the server; there are [type](id: …), [type]List and [type]Connection.",
                    asked.node,
                    (asked.key,),
                    key="HS-GRAPHQL-FIELD",
                )
        return output.document()

    async def _one(self, asked: Asked, here: Here) -> Json:
        """`Patient(id: …)`."""
        arguments = self._selector.arguments(asked.node)
        resource_id = arguments.get("id", arguments.get("_id"))
        if len(arguments) != 1 or type(resource_id) is not str:
            raise refused(
                f"{asked.name} takes the one argument `id`; searches are {asked.name}List and {asked.name}Connection.",
                asked.node,
                here.path,
            )
        try:
            resource = await self._reach.read(asked.name, resource_id)
        except FhirError as error:
            raise QueryError(error, asked.node, here.path) from None
        return await self._object(asked.selections, resource, asked.name, replace(here, resource=resource))

    # --- objects ----------------------------------------------------------------------------------------------------

    async def _object(self, selections: tuple[SelectionNode, ...], value: Any, shape: str, here: Here) -> Json:
        output = Output()
        await self._fill(output, selections, value, shape, replace(here, suffix="", flat=False, level=here.level + 1))
        return output.document()

    async def _fill(
        self, output: Output, selections: tuple[SelectionNode, ...], value: Any, shape: str, here: Here
    ) -> None:
        """Add the fields that selections ask of a value."""
        if here.level > MOST_LEVELS:
            raise too_costly(f"The fields stand in each other deeper than {MOST_LEVELS} levels.")
        fields = fields_of(shape, self._registry)
        for asked in self._selector.asked(selections, shape):
            check_directives(asked.node)
            name = asked.name
            if name == "__typename":
                output.add(asked.key + here.suffix, [shape], many=here.flat)
            elif name in fields:
                await self._field(output, asked, fields[name], value, here)
            elif shape == "Reference" and name == "resource":
                await self._resource(output, asked, value, here)
            elif value is not here.resource or not await self._search_field(asked, output, here):
                raise refused(
                    f"{shape} has no field {name!r}.", asked.node, (*here.path, asked.key), key="HS-GRAPHQL-FIELD"
                )

    async def _field(self, output: Output, asked: Asked, field: Field, value: Any, here: Here) -> None:
        """One element: its values filtered, shown, and put where the directives want them."""
        node = asked.node
        if field.leaf == bool(asked.selections):
            what = "is a simple value and has no fields" if field.leaf else "needs a selection of its fields"
            raise refused(f"{asked.name!r} {what}.", node, (*here.path, asked.key))
        found = value.get(field.name) if type(value) is dict else None
        values = found if type(found) is list else [] if found is None else [found]
        values = self._selector.wanted(values, field, node, here.resource)
        directives = {d.name.value: d for d in node.directives or ()}
        if "first" in directives:
            values = values[:1]
        slicing = directives.get("slice")
        by = self._query.argument_of(slicing, "path") if slicing else None
        if slicing and type(by) is not str:
            raise refused("@slice needs a `path`: a FHIRPath expression, or $index.", slicing)
        suffixes = [here.suffix] * len(values)
        if by is not None:
            for index, one in enumerate(values):
                shape = shape_of(field, one)
                suffixes[index] += "." + self._selector.slice_name(by, index, one, shape, node, here.resource)
        if "flatten" in directives and not field.leaf:
            for one, suffix in zip(values, suffixes, strict=True):
                inner = replace(here, suffix=suffix, flat=True, level=here.level + 1)
                await self._fill(output, asked.selections, one, shape_of(field, one), inner)
            return
        shown = values if field.leaf else await self._shown(asked, field, values, here.at(asked.key))
        self._put(output, asked, field.many, list(zip(suffixes, shown, strict=True)), here, sliced=by is not None)

    async def _shown(self, asked: Asked, field: Field, values: list[Any], here: Here) -> list[Any]:
        def one(index: int, value: Any) -> Coroutine[Any, Any, Json]:
            place = here.at(index) if field.many else here
            if field.name == "contained" or (field.shape == "Resource" and type(value) is dict):
                # References of a contained resource lead to its container's; those of an entry stand by themselves.
                place = place if field.name == "contained" else replace(place, resource=value)
            return self._object(asked.selections, value, shape_of(field, value), place)

        return await together([one(index, value) for index, value in enumerate(values)])

    def _put(
        self, output: Output, asked: Asked, many: bool, rows: list[tuple[str, Any]], here: Here, *, sliced: bool
    ) -> None:
        single = any(d.name.value == "singleton" for d in asked.node.directives or ())
        for suffix, value in rows:
            key = asked.key + suffix
            if single:
                output.single(key, [value], asked.node, here.path)
            else:
                output.add(key, [value], many=here.flat or (many and not sliced))

    # --- references and searches ------------------------------------------------------------------------------------

    async def _resource(self, output: Output, asked: Asked, value: Json, here: Here) -> None:
        """`resource` of a Reference, with `optional` and `type`."""
        arguments = self._selector.arguments(asked.node)
        optional, wanted = arguments.pop("optional", None), arguments.pop("type", None)
        if arguments:
            raise refused(f"`resource` takes `optional` and `type`, not {', '.join(arguments)}.", asked.node, here.path)
        reference = value.get("reference")
        if type(reference) is not str:
            return  # a logical reference, by identifier or display alone
        place = here.at(asked.key)
        try:
            resource = await self._reach.resolve(reference, here.resource)
        except FhirError as error:
            if optional is not True or not is_gone(error):
                self.errors.append(QueryError(error, asked.node, place.path))
            return
        shape = str(resource["resourceType"])
        if wanted is not None and wanted != shape:
            return
        root = here.resource if reference.startswith("#") else resource
        shown = await self._object(asked.selections, resource, shape, replace(place, resource=root))
        self._put(output, asked, False, [(here.suffix, shown)] if shown else [], here, sliced=False)

    async def _search_field(self, asked: Asked, output: Output, here: Here) -> bool:
        """`[type]List` and `[type]Connection`, of the server or of what refers to a resource; False for other names."""
        for ending in ("List", "Connection"):
            resource_type = asked.name.removesuffix(ending)
            if asked.name.endswith(ending) and self._registry.is_resource_type(resource_type):
                break
        else:
            return False
        pairs = self._pairs(asked.node, here)
        place = here.at(asked.key)
        try:
            if ending == "List":
                found = await self._reach.every(resource_type, pairs)
                shown = await together(
                    [
                        self._object(asked.selections, r, resource_type, replace(place.at(n), resource=r))
                        for n, r in enumerate(found)
                    ]
                )
                output.add(asked.key, shown, many=True)
            else:
                inner = self._selector.asked(asked.selections, f"{resource_type}Connection")
                counted = any(a.name == "count" for a in inner)
                listed = await self._reach.page(resource_type, pairs, default=PAGE_SIZE, total=counted)
                output.add(asked.key, [await self._connection(inner, listed, resource_type, place)], many=False)
        except FhirError as error:
            raise QueryError(error, asked.node, place.path) from None
        return True

    def _pairs(self, node: FieldNode, here: Here) -> list[tuple[str, str]]:
        """The search parameters among a field's arguments; `-` is written `_`, a list asks for all of its values."""
        pairs: list[tuple[str, str]] = []
        arguments = self._selector.arguments(node)
        through = arguments.pop("_reference", None)
        if (through is None) != (not here.resource):
            told = "needs `_reference`, the parameter that leads here" if here.resource else "takes no `_reference`"
            raise refused(f"{node.name.value!r} {told}.", node, here.path)
        if through is not None:
            pairs.append((dashed(str(through)), f"{here.resource['resourceType']}/{here.resource.get('id')}"))
        for name, value in arguments.items():
            pairs += [(dashed(name), text_of(one)) for one in (value if type(value) is list else [value])]
        return [(name, value) for name, value in pairs if value]

    async def _connection(self, inner: list[Asked], listed: Listed, resource_type: str, here: Here) -> Json:
        """A page of a search with what leads to others."""
        told = {
            "count": listed.total,
            "offset": listed.offset,
            "pagesize": listed.size,
            "first": listed.first,
            "previous": listed.previous,
            "next": listed.next,
        }
        output = Output()
        for asked in inner:
            if asked.name == "edges":
                place = here.at(asked.key)
                edges = [self._edge(asked, r, resource_type, place.at(n)) for n, r in enumerate(listed.resources)]
                output.add(asked.key, await together(edges), many=True)
            elif asked.name in CONNECTION_FIELDS:
                value = told.get(asked.name)
                output.add(asked.key, [] if value is None else [value], many=False)
            else:
                raise refused(
                    f"A connection has no field {asked.name!r}; it has edges, {', '.join(CONNECTION_FIELDS)}.",
                    asked.node,
                    (*here.path, asked.key),
                    key="HS-GRAPHQL-FIELD",
                )
        return output.document()

    async def _edge(self, edge: Asked, resource: Json, resource_type: str, here: Here) -> Json:
        output = Output()
        for asked in self._selector.asked(edge.selections, f"{resource_type}Edge"):
            if asked.name == "resource":
                place = replace(here.at(asked.key), resource=resource)
                shown = await self._object(asked.selections, resource, resource_type, place)
                output.add(asked.key, [shown], many=False)
            elif asked.name == "mode":
                output.add(asked.key, ["match"], many=False)
            elif asked.name != "score":  # searches here have none
                raise refused(
                    f"An edge has no field {asked.name!r}; it has mode, score and resource.",
                    asked.node,
                    (*here.path, asked.key),
                    key="HS-GRAPHQL-FIELD",
                )
        return output.document()


def check_directives(node: FieldNode) -> None:
    for directive in node.directives or ():
        if directive.name.value not in SIMPLE_DIRECTIVES:
            raise refused(
                f"There is no directive @{directive.name.value}; there are "
                f"{', '.join('@' + name for name in sorted(SIMPLE_DIRECTIVES))}.",
                directive,
            )


def dashed(name: str) -> str:
    """`general_practitioner` is the parameter `general-practitioner`; a `_` in front stays."""
    return name[:1] + name[1:].replace("_", "-")


def text_of(value: Any) -> str:
    return "" if value is None else ("false", "true")[value] if type(value) is bool else str(value)


async def together(work: list[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; when one fails, the others are given up."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
