"""One element of an object as rows: its values in order, each with what FHIR JSON keeps beside a primitive.

`given: ["Ada", null]` and `_given: [null, {...}]` are one list to a patch; here they are read and written together.

Spec: https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import Field
from fhir_server.patching.document import Json


class Row(NamedTuple):
    """One value of an element, and the id and extensions of a primitive."""

    value: Any
    twin: Json | None = None


def rows_of(holder: Json, field: Field) -> list[Row]:
    """The values of an element; none where it is not there."""
    value = holder.get(field.key)
    twin = holder.get(field.twin) if field.kind.is_primitive else None
    if not field.many:
        return [] if value is None and twin is None else [Row(value, twin)]
    values = value if type(value) is list else []
    twins = twin if type(twin) is list else []
    return [
        Row(values[at] if at < len(values) else None, twins[at] if at < len(twins) else None)
        for at in range(max(len(values), len(twins)))
    ]


def write_rows(holder: Json, field: Field, rows: list[Row]) -> None:
    """Put values in place of those that the element has; without any it is no longer there."""
    values, twins = [row.value for row in rows], [row.twin for row in rows]
    _put(holder, field.key, values, field.many)
    if field.kind.is_primitive:
        _put(holder, field.twin, twins, field.many)


def _put(holder: Json, key: str, column: list[Any], many: bool) -> None:
    if all(value is None for value in column):
        holder.pop(key, None)
    else:
        holder[key] = column if many else column[0]


def field_of(item: Item) -> Field:
    """The element that an item of a resource is a value of."""
    assert item.parent is not None
    return item.parent.kind.by_key("*")[item.key]


def holder_of(item: Item) -> Json:
    """The object that has the members of an item; for a primitive the one beside it, made if it is not there."""
    if type(item.value) is dict:
        return item.value
    if item.twin is None:
        item.twin = {}
        if item.parent is not None:
            holder, field, at = holder_of(item.parent), field_of(item), max(item.at, 0)
            rows = rows_of(holder, field)
            rows[at] = rows[at]._replace(twin=item.twin)
            write_rows(holder, field, rows)
    return item.twin


def rename(holder: Json, old: Field, new: Field) -> None:
    """Give the member of a choice the name of another type, at the same place of the object."""
    names = {old.key: new.key, old.twin: new.twin}
    members = [(names.get(name, name), value) for name, value in holder.items()]
    holder.clear()
    holder.update(members)
