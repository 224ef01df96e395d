"""What makes one resource of another, as a FHIRPath Patch that also tells what stood there before.

Lists are compared as the shortest script of insertions and deletions finds them, so that a name put in front is one
insertion and not a change of every name. The operations of a list come from its end to its beginning, and deletions
before additions, so that every path is true when its turn comes.

Spec: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from fhir_server.fhirpath.kinds import Field, Kind, Kinds, kinds_of
from fhir_server.model import codec
from fhir_server.patching.rows import Row, rows_of
from profiles.registry import Registry

Json = dict[str, Any]

#: Members that every version or resource has of its own.
OWN = ("id", "resourceType")
OWN_META = ("versionId", "lastUpdated")


def patch_between(before: Json, after: Json, registry: Registry) -> Json:
    """The FHIRPath Patch from one resource to another of the same type: Parameters, empty where they are the same."""
    kinds = kinds_of(registry)
    name = before["resourceType"]
    kind = kinds.named(name)
    assert kind is not None
    operations = list(_Comparison(kinds).objects(comparable(before), comparable(after), kind, name))
    rows = [{"name": "operation", "part": parts} for parts in operations]
    return {"resourceType": "Parameters", **({"parameter": rows} if rows else {})}


def comparable(resource: Json) -> Json:
    """The resource without what belongs to one version alone."""
    rest = {name: value for name, value in resource.items() if name not in OWN}
    meta = {name: value for name, value in rest.pop("meta", {}).items() if name not in OWN_META}
    return {**({"meta": meta} if meta else {}), **rest}


class _Comparison:
    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        parameter = kinds.named("Parameters.parameter")
        assert parameter is not None
        self._typed = parameter.by_key("value")

    def objects(self, before: Json, after: Json, kind: Kind, path: str) -> Iterator[list[Json]]:
        """The operations that make one object of another; types of a choice that go make room for those that come."""
        fields = self._fields(kind, (before, after))
        added: list[list[Json]] = []
        for field in fields:
            old, new = rows_of(before, field), rows_of(after, field)
            if same(old, new):
                continue
            place = f"{path}.{element_of(field)}"
            if not new:
                yield from self._deleted(old, field, place)
            elif not old:
                added += [self._operation("add", path, field, value=row, name=element_of(field)) for row in new]
            elif field.many:
                yield from self._lists(old, new, field, place)
            else:
                yield from self._values(old[0], new[0], field, place)
        yield from added

    def _fields(self, kind: Kind, holders: tuple[Json, Json]) -> list[Field]:
        known = kind.by_key("*")
        keys = dict.fromkeys(key for holder in holders for key in holder)
        return list(dict.fromkeys(known[key] for key in keys if key in known))

    def _lists(self, old: list[Row], new: list[Row], field: Field, place: str) -> Iterator[list[Json]]:
        matcher = SequenceMatcher(None, [key_of(row) for row in old], [key_of(row) for row in new], autojunk=False)
        path, _, name = place.rpartition(".")
        for tag, i1, i2, j1, j2 in reversed(matcher.get_opcodes()):
            if tag == "equal":
                continue
            paired = min(i2 - i1, j2 - j1)
            for at in range(i2 - 1, i1 + paired - 1, -1):
                yield self._operation("delete", f"{place}[{at}]", field, previous=old[at])
            for at in range(j1 + paired, j2):
                if i2 == len(old):
                    yield self._operation("add", path, field, value=new[at], name=name)
                else:
                    yield self._operation("insert", place, field, value=new[at], index=i1 + at - j1)
            for step in range(paired):
                yield from self._values(old[i1 + step], new[j1 + step], field, f"{place}[{i1 + step}]")

    def _values(self, old: Row, new: Row, field: Field, place: str) -> Iterator[list[Json]]:
        if type(old.value) is dict and type(new.value) is dict and not field.kind.is_resource:
            inside = self._fields(field.kind, (old.value, new.value))
            if inside and keeps_something(old.value, new.value):
                yield from self.objects(old.value, new.value, field.kind, place)
                return
        yield self._operation("replace", place, field, value=new, previous=old)

    def _deleted(self, old: list[Row], field: Field, place: str) -> Iterator[list[Json]]:
        for at in range(len(old) - 1, -1, -1):
            yield self._operation("delete", f"{place}[{at}]" if field.many else place, field, previous=old[at])

    def _operation(
        self,
        kind: str,
        path: str,
        field: Field,
        *,
        name: str | None = None,
        index: int | None = None,
        value: Row | None = None,
        previous: Row | None = None,
    ) -> list[Json]:
        parts: list[Json] = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
        if name is not None:
            parts.append({"name": "name", "valueString": name})
        if index is not None:
            parts.append({"name": "index", "valueInteger": index})
        if previous is not None:
            parts.append(self._part("previousValue", previous, field))
        if value is not None:
            parts.append(self._part("value", value, field))
        return parts

    def _part(self, name: str, row: Row, field: Field) -> Json:
        """A value as a part of a patch: typed where Parameters can have its type, else put together of parts."""
        kind = field.kind
        if type(row.value) is dict and "resourceType" in row.value:
            return {"name": name, "resource": row.value}
        key = f"value{kind.name[:1].upper()}{kind.name[1:]}"
        if key not in self._typed:
            if type(row.value) is dict:
                return {"name": name, "part": list(self._parts(row.value, kind))}
            key = "valueString"
        part: Json = {"name": name}
        if row.value is not None:
            part[key] = row.value
        if row.twin is not None:
            part[f"_{key}"] = row.twin
        return part

    def _parts(self, value: Json, kind: Kind) -> Iterator[Json]:
        for field in self._fields(kind, (value, {})):
            for row in rows_of(value, field):
                yield self._part(element_of(field), row, field)


def element_of(field: Field) -> str:
    """The name of the element that a member is; of a choice, without the type."""
    return field.element.name.removesuffix("[x]") if field.element else field.key


def same(old: list[Row], new: list[Row]) -> bool:
    return len(old) == len(new) and all(key_of(a) == key_of(b) for a, b in zip(old, new, strict=True))


def key_of(row: Row) -> bytes:
    """What equal values share: their JSON, whatever the order of members."""
    return codec.encode([in_order(row.value), in_order(row.twin)])


def in_order(node: Any) -> Any:
    if type(node) is dict:
        return {name: in_order(node[name]) for name in sorted(node)}
    return [in_order(child) for child in node] if type(node) is list else node


def keeps_something(old: Json, new: Json) -> bool:
    """Whether some member of an object stays, so that it is the same object, changed."""
    return any(name in new for name in old)
