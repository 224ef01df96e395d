"""Steps of a path: members, types at its start, indexers, and whether a member is there at all.

Spec: http://hl7.org/fhirpath/N1/#path-selection
"""

from __future__ import annotations

from fhir_server.fhirpath.evaluation import Context, Evaluate, Truth
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, children


def member(source: Evaluate | None, name: str) -> Evaluate:
    """`source.name`"""
    if source is None:

        def of_focus(focus: Items, context: Context) -> Items:
            if len(focus) == 1:
                return children(focus[0], name)
            return [child for item in focus for child in children(item, name)]

        return of_focus

    def of_source(focus: Items, context: Context) -> Items:
        items = source(focus, context)
        if len(items) == 1:
            return children(items[0], name)
        return [child for item in items for child in children(item, name)]

    return of_source


def of_type_or_member(name: str) -> Evaluate:
    """A name that starts a path and is a type's: the focus itself where it is of that type."""

    def evaluate(focus: Items, context: Context) -> Items:
        return [found for item in focus for found in ((item,) if item.kind.is_a(name) else children(item, name))]

    return evaluate


def present(name: str) -> Truth:
    """`name.exists()`, without an item being made."""

    def truth(focus: Items, context: Context) -> bool:
        return any(_has(item, name) for item in focus)

    def of_one(focus: Items, context: Context) -> bool:
        return _has(focus[0], name) if len(focus) == 1 else truth(focus, context)

    return of_one


def _has(item: Item, name: str) -> bool:
    kind = item.kind
    fields = kind.fields.get(name)
    if fields is None:
        fields = kind.fields_named(name)
    holder = item.value
    if type(holder) is not dict:
        holder = item.twin
        if holder is None:
            return False
    if len(fields) > len(holder):
        known = kind.by_key(name)
        return any(key in known and value is not None and value != [] for key, value in holder.items())
    return any(holder.get(field.key) not in (None, []) or holder.get(field.twin) is not None for field in fields)


def indexed(source: Evaluate, index: Evaluate) -> Evaluate:
    """`source[index]`, counted from 0; empty beyond the end."""

    def evaluate(focus: Items, context: Context) -> Items:
        items, position = source(focus, context), index(focus, context)
        if not position:
            return EMPTY
        if len(position) > 1 or position[0].kind.system != "Integer":
            raise Fault("an index must be one integer")
        at = position[0].value
        return items[at : at + 1] if at >= 0 else EMPTY

    return evaluate
