"""The types of values while an expression runs, and the JSON members that a name means on each.

A kind is FHIR's (`FHIR.Quantity`, `FHIR.code`, the unnamed type of `Patient.contact`) or FHIRPath's own
(`System.Quantity`, `System.String`). Kinds are made once for a registry and its copies, when they are first met, and
are compared by identity; each remembers what its members are, so that a step of a path costs a look-up by name.

Spec: http://hl7.org/fhirpath/N1/#types-and-reflection, https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.fhirpath.shapes import Member, Shape, is_a, members_of, shape_of
from profiles.registry import Element, Registry

#: The type of FHIRPath that a primitive of FHIR is turned to where an operator or function needs one.
SYSTEM_TYPES = {
    "boolean": "Boolean",
    "integer": "Integer",
    "unsignedInt": "Integer",
    "positiveInt": "Integer",
    "decimal": "Decimal",
    "date": "Date",
    "dateTime": "DateTime",
    "instant": "DateTime",
    "time": "Time",
    **dict.fromkeys(("string", "code", "id", "markdown", "uri", "url", "canonical", "oid", "uuid"), "String"),
    **dict.fromkeys(("base64Binary", "xhtml"), "String"),
}


_MAX_KEPT_NAMES = 500


@dataclass(frozen=True, slots=True)
class Field:
    """One JSON member: its name, the name of its twin (`_birthDate`), what its values are, and its definition."""

    key: str
    twin: str
    many: bool
    kind: Kind
    element: Element | None = None


class Kind:
    """The type of a value. `name` is what `type().name` says; `system` the FHIRPath type it is or is turned to."""

    __slots__ = (
        "_kinds",
        "choices",
        "element",
        "fields",
        "is_primitive",
        "is_resource",
        "name",
        "namespace",
        "shape",
        "system",
    )

    def __init__(self, namespace: str, name: str, system: str | None = None, kinds: Kinds | None = None) -> None:
        self.namespace = namespace
        self.name = name
        self.system = system
        self.is_primitive = system is not None and system != "Quantity"
        self.is_resource = False
        #: The members by the names that expressions use; filled as they are asked for, `()` for no such member.
        self.fields: dict[str, tuple[Field, ...]] = {}
        #: The same by JSON key, twins too, for names that mean many members; see `by_key`.
        self.choices: dict[str, dict[str, Field]] = {}
        self._kinds = kinds
        #: The root of its definition, which carries the invariants of the type.
        self.element: Element | None = None
        #: Where its members are defined; None for types that are not FHIR's.
        self.shape: Shape | None = None

    def __repr__(self) -> str:
        return f"{self.namespace}.{self.name}"

    def fields_named(self, name: str) -> tuple[Field, ...]:
        """The members that a name means: one, several for a choice, none where there is no such element."""
        found = self.fields.get(name)
        if found is None:
            found = () if self._kinds is None else self._kinds.fields_of(self, self.shape, name)
            # Names come from the expressions of clients too: those that mean nothing are not kept without end.
            if found or len(self.fields) < _MAX_KEPT_NAMES:
                self.fields[name] = found
        return found

    def all_fields(self) -> tuple[Field, ...]:
        """Every member in the order of the definition, that of a choice once per type."""
        return () if self._kinds is None else self._kinds.all_fields(self.shape)

    def by_key(self, name: str) -> dict[str, Field]:
        """The members that a name means (with `*`: all) by their JSON keys, twins too.

        An object has few members and a choice many types: it is faster to look at what is there.
        """
        found = self.choices.get(name)
        if found is None:
            fields = self.all_fields() if name == "*" else self.fields_named(name)
            found = self.choices[name] = {key: field for field in fields for key in (field.key, field.twin)}
        return found

    def is_a(self, name: str) -> bool:
        """Whether it is the FHIR type of that name or specializes it."""
        if self._kinds is None or self.shape is None:
            return False
        return name == self.name or is_a(self._kinds.registry, self.shape.type, name)

    def base(self) -> str | None:
        """The qualified name of the type that it specializes."""
        if self._kinds is None or self.shape is None:
            return "System.Any"
        definition = self._kinds.registry.types.get(self.shape.type)
        return f"FHIR.{definition.base}" if definition and definition.base else None

    def sibling(self, name: str) -> Kind:
        """The kind of another type of the same registry, itself where there is no such type."""
        return (self._kinds and self._kinds.named(name)) or self

    @classmethod
    def of_shape(cls, shape: Shape, kinds: Kinds) -> Kind:
        """The FHIR kind of a shape."""
        definition = kinds.registry.types.get(shape.type)
        primitive = definition is not None and definition.kind == "primitive-type"
        system = SYSTEM_TYPES.get(shape.type, "String") if primitive else None
        kind = cls("FHIR", shape.type, "Quantity" if _is_quantity(shape, kinds) else system, kinds)
        kind.shape = shape
        kind.element = kinds.registry.types[shape.owner].elements.get(shape.path)
        kind.is_resource = definition is not None and definition.kind == "resource"
        return kind


def _is_quantity(shape: Shape, kinds: Kinds) -> bool:
    return is_a(kinds.registry, shape.type, "Quantity")


#: FHIRPath's own types.
BOOLEAN = Kind("System", "Boolean", "Boolean")
STRING = Kind("System", "String", "String")
INTEGER = Kind("System", "Integer", "Integer")
DECIMAL = Kind("System", "Decimal", "Decimal")
DATE = Kind("System", "Date", "Date")
DATE_TIME = Kind("System", "DateTime", "DateTime")
TIME = Kind("System", "Time", "Time")
QUANTITY = Kind("System", "Quantity", "Quantity")
#: What a member is of that the definitions do not know: reached only by children() and descendants().
UNKNOWN = Kind("FHIR", "Element")

TYPE_INFO = Kind("System", "SimpleTypeInfo")
TYPE_INFO.fields = {name: (Field(name, "", False, STRING),) for name in ("namespace", "name", "baseType")}

SYSTEM_KINDS = {k.name: k for k in (BOOLEAN, STRING, INTEGER, DECIMAL, DATE, DATE_TIME, TIME, QUANTITY)}
SYSTEM_NAMES = frozenset((*SYSTEM_KINDS, "Any"))


class Kinds:
    """The kinds of one registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._kinds: dict[Shape, Kind] = {}
        self._named: dict[str, Kind] = {}
        self._all: dict[Shape, tuple[Field, ...]] = {}

    def named(self, path: str) -> Kind | None:
        """The kind of a type (`Patient`, `code`) or of the element at a path (`Patient.contact`); None: no such one."""
        kind = self._named.get(path)
        if kind is None and (shape := self._shape_at(path)) is not None:
            kind = self._named[path] = self.of(shape)
        return kind

    def _shape_at(self, path: str) -> Shape | None:
        type_name, _, rest = path.partition(".")
        if type_name not in self.registry.types:
            return None
        shape = shape_of(type_name)
        for name in rest.split(".") if rest else ():
            members = members_of(self.registry, shape, name.removesuffix("[x]"))
            if len(members) != 1:
                return None
            shape = members[0].shape
        return shape

    def of(self, shape: Shape) -> Kind:
        """The one kind of a shape."""
        kind = self._kinds.get(shape)
        # Two threads may both make one; either wins for good.
        return kind or self._kinds.setdefault(shape, Kind.of_shape(shape, self))

    def fields_of(self, kind: Kind, shape: Shape | None, name: str) -> tuple[Field, ...]:
        """What a name means on a shape; a primitive's `value` is no member, its value is the item itself."""
        if shape is None or (kind.is_primitive and name == "value"):
            return ()
        if kind.is_resource and name == "id":  # the table says `string`, the type's own page says `id`
            return (Field("id", "_id", False, self.of(shape_of("id")), self._element(shape, "id")),)
        return tuple(map(self._field, members_of(self.registry, shape, name)))

    def all_fields(self, shape: Shape | None) -> tuple[Field, ...]:
        """Every member of a shape."""
        if shape is None:
            return ()
        found = self._all.get(shape)
        if found is None:
            names = (e.name.removesuffix("[x]") for e in self.registry.types[shape.owner].children(shape.path))
            kind = self.of(shape)
            found = self._all[shape] = tuple(field for name in names for field in self.fields_of(kind, shape, name))
        return found

    def _field(self, member: Member) -> Field:
        return Field(member.key, f"_{member.key}", member.many, self.of(member.shape), member.element)

    def _element(self, shape: Shape, name: str) -> Element | None:
        return self.registry.types[shape.owner].elements.get(f"{shape.path}.{name}")


def kinds_of(registry: Registry) -> Kinds:
    """The kinds of a registry, kept with it."""
    return registry.shared(Kinds)()
