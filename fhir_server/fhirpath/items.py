"""Items: values with their types, what collections are made of.

An item's value is what JSON has: a dict, a string, a boolean, an int, a Decimal; a date, a time and a dateTime are
strings in FHIR's form. Only a quantity that is not in a resource is of another class (`quantities.Quantity`).
A primitive that has nothing but extensions has the value None; its extensions are in its `twin`.

Spec: http://hl7.org/fhirpath/N1/#data-model, https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from fhir_server.fhirpath.kinds import (
    BOOLEAN,
    DECIMAL,
    INTEGER,
    QUANTITY,
    STRING,
    SYSTEM_KINDS,
    UNKNOWN,
    Field,
    Kind,
    Kinds,
)
from fhir_server.fhirpath.quantities import Quantity


class Item(msgspec.Struct, eq=False, gc=False):
    """A value, its type, and where it stands.

    `twin` holds id and extensions of a primitive (the member `_birthDate`). `parent` is the item whose member `key`
    it is, at the position `at` of an array (-1: no array); an item that was computed has no parent.
    """

    value: Any
    kind: Kind
    twin: dict[str, Any] | None = None
    parent: Item | None = None
    key: str = ""
    at: int = -1

    @property
    def type(self) -> str:
        """The qualified name of its type: `FHIR.code`, `System.String`."""
        return f"{self.kind.namespace}.{self.kind.name}"

    @property
    def definition(self) -> str | None:
        """Where its members are defined: `Quantity`, `Observation.component`; what `root_type` takes."""
        return None if self.kind.shape is None else self.kind.shape.path

    @property
    def path(self) -> str:
        """The FHIRPath to it: `Observation.component[0].valueQuantity`; empty for a computed one."""
        if self.parent is None:
            return self.key
        step = f"{self.parent.path}.{self.key}"
        return step if self.at < 0 else f"{step}[{self.at}]"

    def plain(self) -> Item:
        """The same value with FHIRPath's own type, no longer a part of a resource."""
        kind = SYSTEM_KINDS.get(self.kind.system or "")
        return self if kind is None or kind is self.kind else Item(self.value, kind)

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type})"


Items = list[Item]

#: An expression can double what it has at every step; beyond these sizes it is refused.
MAX_TEXT = 10_000_000
MAX_ITEMS = 1_000_000

#: Up to so many members are looked up one by one.
_FEW = 4

TRUE = Item(True, BOOLEAN)
FALSE = Item(False, BOOLEAN)
#: The collections of one boolean. Collections are shared and must never be changed.
TRUES: Items = [TRUE]
FALSES: Items = [FALSE]
EMPTY: Items = []


class Fault(Exception):
    """An expression that cannot be evaluated; the place is added on the way out."""

    def __init__(self, reason: str, at: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


def limited(items: Items) -> Items:
    """The collection itself, if it is of a size that somebody can want."""
    if len(items) > MAX_ITEMS:
        raise Fault(f"a collection of more than {MAX_ITEMS} items")
    return items


def boolean(truth: bool | None) -> Items:
    """A three-valued truth as a collection; None is empty."""
    return EMPTY if truth is None else TRUES if truth else FALSES


def string(text: str) -> Items:
    if len(text) > MAX_TEXT:
        raise Fault(f"a string of more than {MAX_TEXT} characters")
    return [Item(text, STRING)]


def integer(number: int) -> Items:
    return [Item(number, INTEGER)]


def decimal(number: Decimal) -> Items:
    return [Item(number, DECIMAL)]


def root_item(value: Any, kinds: Kinds, kind: Kind | None = None) -> Item:
    """The item of a resource or of an element of the kind that is given."""
    if isinstance(value, Item):
        return value
    if isinstance(value, dict) and isinstance(name := value.get("resourceType"), str):
        found = kinds.named(name) or UNKNOWN
        return Item(value, found, key=found.name)
    if kind is not None:
        return Item(value, kind, key=kind.name)
    return _plain(value)


def items_of(value: Any, kinds: Kinds) -> Items:
    """The collection of a variable's value: an item, a plain value, or a list of them."""
    if value is None:
        return EMPTY
    if isinstance(value, (list, tuple)):
        return [root_item(v, kinds) for v in value]
    return [root_item(value, kinds)]


def _plain(value: Any) -> Item:
    for python, kind in ((bool, BOOLEAN), (int, INTEGER), (Decimal, DECIMAL), (str, STRING), (Quantity, QUANTITY)):
        if isinstance(value, python):
            return Item(value, kind)
    return Item(value, UNKNOWN)


def children(item: Item, name: str) -> Items:
    """The values of the members that a name means on an item, in document order."""
    kind = item.kind
    fields = kind.fields.get(name)
    if fields is None:
        fields = kind.fields_named(name)
    found: Items = []
    if len(fields) > _FEW:
        _gather_known(item, kind.by_key(name), found)
    else:
        for field in fields:
            gather(item, field.key, field.twin, field.kind, found)
    return found


def _gather_known(item: Item, fields: dict[str, Field], found: Items) -> None:
    """Append the values of those members of an item that are among some fields."""
    holder = item.value if type(item.value) is dict else item.twin
    if holder is None:
        return
    for key in holder:
        field = fields.get(key)
        # A twin counts where its member is missing; else it comes with the member.
        if field is not None and (key == field.key or field.key not in holder):
            gather(item, field.key, field.twin, field.kind, found)


def gather(item: Item, key: str, twin_key: str, kind: Kind, found: Items) -> None:
    """Append the values of one JSON member of an item."""
    holder = item.value
    if type(holder) is not dict:
        holder = item.twin
        if holder is None:
            return
    value = holder.get(key)
    if kind.is_primitive:
        twin = holder.get(twin_key)
        if value is None and twin is None:
            return
        if type(value) is list or type(twin) is list:
            _gather_primitives(item, key, kind, value or [], twin or [], found)
        else:
            found.append(Item(value, kind, twin, item, key))
    elif value is None:
        return
    elif type(value) is list:
        for at, one in enumerate(value):
            if one is not None:
                found.append(Item(one, _resource_kind(one, kind) if kind.is_resource else kind, None, item, key, at))
    else:
        found.append(Item(value, _resource_kind(value, kind) if kind.is_resource else kind, None, item, key))


def _gather_primitives(item: Item, key: str, kind: Kind, values: list[Any], twins: list[Any], found: Items) -> None:
    for at in range(max(len(values), len(twins))):
        value = values[at] if at < len(values) else None
        twin = twins[at] if at < len(twins) else None
        if value is not None or twin is not None:
            found.append(Item(value, kind, twin, item, key, at))


def _resource_kind(resource: Any, declared: Kind) -> Kind:
    name = resource.get("resourceType") if type(resource) is dict else None
    return declared.sibling(name) if isinstance(name, str) else declared


def all_children(item: Item, found: Items) -> None:
    """Append every child of an item, in the order of the document."""
    _gather_known(item, item.kind.by_key("*"), found)
