"""The definitions that the server works by: types and their elements, search parameters, compartments, operations.

They come from the digest of FHIR R4 4.0.1 beside this module (`profiles.digest` makes it). Reading it takes tens of
milliseconds; everything derived from it is computed when it is first asked for, and kept by the registry that it is
derived from, so that it goes when that goes: every server has a registry of its own, and tries search parameters on
further ones before they come into force.

Spec: https://hl7.org/fhir/R4/definition.html
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import msgspec

STRUCTURES = "StructureDefinition"

P = ParamSpec("P")
T = TypeVar("T")


def digest(name: str) -> Any:
    """One file of the digest, decoded."""
    return msgspec.json.decode(gzip.decompress((files("profiles") / "r4" / f"{name}.json.gz").read_bytes()))


def definitions(resource_type: str) -> list[Any]:
    """The definitions of this server's own that are of a type, decoded: see `profiles/definitions`."""
    folder = files("profiles") / "definitions"
    names = sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{resource_type}-"))
    return [msgspec.json.decode((folder / name).read_bytes()) for name in names]


@cache
def own_definitions(resource_type: str) -> tuple[dict[str, Any], ...]:
    """The same, read once; they are shared and must not be changed."""
    return tuple(definitions(resource_type))


@dataclass(frozen=True, slots=True)
class ElementType:
    """A type that an element may have: what its references lead to, and profiles that it must conform to."""

    code: str
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule of an element; one of `best_practice` is advice that nothing need follow."""

    key: str
    severity: str
    human: str
    expression: str
    best_practice: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, as its StructureDefinition's snapshot defines it.

    `path` is whole (`Observation.component.value[x]`); `max` is None where it is `*`; `content` names the path whose
    children this element repeats (`Questionnaire.item` for `Questionnaire.item.item`).
    """

    path: str
    min: int
    max: int | None
    types: tuple[ElementType, ...] = ()
    content: str | None = None
    binding_strength: str | None = None
    binding: str | None = None
    summary: bool = False
    modifier: bool = False
    invariants: tuple[Invariant, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path: `value[x]`."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def is_choice(self) -> bool:
        return self.path.endswith("[x]")


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A resource type, data type or primitive with its elements by path, the root first."""

    name: str
    kind: str
    abstract: bool
    base: str | None
    regex: str | None
    elements: dict[str, Element]

    def children(self, path: str) -> list[Element]:
        """The elements directly below a path, in the order of the definition."""
        depth = path.count(".") + 1
        return [e for p, e in self.elements.items() if p.startswith(f"{path}.") and p.count(".") == depth]


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One search parameter.

    `own` ones are of this server's operator, not of the specification; one that is not `ready` finds only what was
    stored since it came into force.
    """

    url: str
    code: str
    type: str
    base: tuple[str, ...]
    expression: str | None
    target: tuple[str, ...] = ()
    component: tuple[tuple[str, str], ...] = ()
    comparator: tuple[str, ...] = ()
    modifier: tuple[str, ...] = ()
    own: bool = False
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Compartment:
    """Which types belong to a compartment, and by which search parameters (`{def}`: the focal resource itself)."""

    code: str
    types: dict[str, tuple[str, ...]]
    url: str


@dataclass(frozen=True, slots=True)
class Operation:
    url: str
    code: str
    name: str
    resource: tuple[str, ...]
    system: bool
    type: bool
    instance: bool
    affects_state: bool
    parameter: tuple[dict[str, Any], ...] = field(default=())


class Registry:
    """All definitions in force; `revision` grows when search parameters or profiles come or go.

    `full_text` names those of `_text` and `_content` for which words are indexed; `guides` the canonicals of the
    implementation guides that packages brought.
    """

    def __init__(self) -> None:
        self.own: tuple[SearchParameter, ...] = ()
        self.full_text: tuple[str, ...] = ()
        self.guides: tuple[str, ...] = ()
        self._packaged: dict[str, tuple[str, ...]] = {}
        self.revision = 0
        self._original: Registry | None = None
        self._of_types: dict[Any, Any] = {}
        self._in_force: dict[Any, Any] = {}

    def copy(self) -> Registry:
        """The same definitions, to be added to without a change of these; what is `shared` is so with them."""
        for name in ("types", "search_parameters", "_parameters_by_type"):
            getattr(self, name)  # computed once for all copies
        other = copy(self)
        other._original = self._original or self
        other._in_force = {}
        return other

    def shared(self, make: Callable[Concatenate[Registry, P], T], most: int | None = None) -> Callable[P, T]:
        """What `make` computes of the types and their elements, which all copies share: once for all of them.

        Args:
            make: takes a registry first, and is not to look at what can change in one
            most: so many results are kept; name a number where arguments come from clients
        """
        found = self._of_types.get(make)
        return found if found is not None else self._keep(self._of_types, self._original or self, make, most)

    def kept(self, make: Callable[Concatenate[Registry, P], T], most: int | None = None) -> Callable[P, T]:
        """What `make` computes of all these definitions: once, until others come into force. Arguments as `shared`."""
        found = self._in_force.get(make)
        return found if found is not None else self._keep(self._in_force, self, make, most)

    @staticmethod
    def _keep(
        results: dict[Any, Any], of: Registry, make: Callable[Concatenate[Registry, P], T], most: int | None
    ) -> Callable[P, T]:
        return cast("Callable[P, T]", results.setdefault(make, lru_cache(maxsize=most)(partial(make, of))))

    def _renewed(self) -> None:
        self.revision += 1
        self._in_force = {}  # a new one: what another thread still computes of the old definitions is not kept

    def adopt(self, own: tuple[SearchParameter, ...]) -> None:
        """Put these search parameters beside those of the specification; earlier ones of this kind go."""
        self.own = own
        for name in ("search_parameters", "_parameters_by_type"):
            self.__dict__.pop(name, None)
        self._renewed()

    def support(self, profiles: dict[str, tuple[str, ...]], guides: tuple[str, ...]) -> None:
        """Have these profiles, by resource type, and these guides among what the server says of itself."""
        if (profiles, guides) != (self._packaged, self.guides):
            self._packaged, self.guides = profiles, guides
            self._renewed()

    def supported(self, resource_type: str) -> tuple[str, ...]:
        """The canonicals of the profiles of a type: this server's own, then those that packages brought."""
        own = (row for row in own_definitions(STRUCTURES) if row["kind"] == "resource" and row["type"] == resource_type)
        return (*(f"{row['url']}|{row['version']}" for row in own), *self._packaged.get(resource_type, ()))

    @cached_property
    def types(self) -> dict[str, TypeDefinition]:
        return {name: _type_of(name, row) for name, row in digest("elements").items()}

    @cached_property
    def resource_types(self) -> tuple[str, ...]:
        """The names of the 146 concrete resource types, sorted."""
        return tuple(sorted(self._resource_type_set))

    @cached_property
    def _resource_type_set(self) -> frozenset[str]:
        return frozenset(n for n, t in self.types.items() if t.kind == "resource" and not t.abstract)

    def is_resource_type(self, name: str) -> bool:
        return name in self._resource_type_set

    @cached_property
    def search_parameters(self) -> dict[str, SearchParameter]:
        """Every search parameter by its canonical URL: of the specification, of this server, of its operator."""
        return {**{parameter.url: parameter for parameter in self.own}, **self.shared(_given_parameters)()}

    @cached_property
    def _parameters_by_type(self) -> dict[str, dict[str, SearchParameter]]:
        """Definitions made for the base type or the type itself win over those of extensions with the same code."""
        tables: dict[str, dict[str, SearchParameter]] = {name: {} for name in self._resource_type_set}
        for parameter in sorted(self.search_parameters.values(), key=lambda p: (p.own, "extensions-" in p.url)):
            for base in parameter.base:
                for name in self._concrete(base):
                    tables[name].setdefault(parameter.code, parameter)
        return tables

    def concrete(self, bases: Iterable[str]) -> tuple[str, ...]:
        """The resource types that some types are or stand for."""
        return tuple(dict.fromkeys(n for base in bases for n in self._concrete(base) if self.is_resource_type(n)))

    def _concrete(self, base: str) -> tuple[str, ...]:
        if base == "Resource":
            return self.resource_types
        if base == "DomainResource":
            return tuple(n for n in self.resource_types if self.types[n].base == "DomainResource")
        return (base,)

    def parameters_of(self, resource_type: str) -> dict[str, SearchParameter]:
        """The search parameters of a resource type by code, those of all resources (`_id`, `_tag`) among them."""
        return self._parameters_by_type[resource_type]

    @cached_property
    def compartments(self) -> dict[str, Compartment]:
        return self.shared(_compartments)()

    @cached_property
    def profiles(self) -> dict[str, dict[str, Any]]:
        """The profiles and extensions of the specification, without prose, and this server's own, by canonical URL."""
        return self.shared(_profiles)()

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """Every operation of the specification by its canonical URL."""
        return self.shared(_operations)()


@cache
def registry() -> Registry:
    """The definitions of FHIR R4, read once."""
    return Registry()


def _type_of(name: str, row: dict[str, Any]) -> TypeDefinition:
    return TypeDefinition(
        name=name,
        kind=row["kind"],
        abstract=row["abstract"],
        base=row["base"],
        regex=row.get("regex"),
        elements={e["path"]: _element_of(e) for e in row["elements"]},
    )


def _element_of(row: dict[str, Any]) -> Element:
    binding = row.get("binding", {})
    return Element(
        path=row["path"],
        min=row["min"],
        max=None if row["max"] == "*" else int(row["max"]),
        types=tuple(
            ElementType(t["code"], tuple(t.get("targets", ())), tuple(t.get("profiles", ())))
            for t in row.get("types", ())
        ),
        content=row.get("content"),
        binding_strength=binding.get("strength"),
        binding=binding.get("valueSet"),
        summary=row.get("summary", False),
        modifier=row.get("modifier", False),
        invariants=tuple(_invariant_of(i) for i in row.get("invariants", ())),
    )


def _invariant_of(row: dict[str, Any]) -> Invariant:
    return Invariant(row["key"], row["severity"], row["human"], row["expression"], row.get("bestPractice", False))


def _given_parameters(_: Registry) -> dict[str, SearchParameter]:
    """Those of the specification and of this server, by canonical URL."""
    rows = [*digest("search-parameters"), *definitions("SearchParameter")]
    return {row["url"]: _search_parameter_of(row) for row in rows}


def _compartments(_: Registry) -> dict[str, Compartment]:
    return {
        row["code"]: Compartment(row["code"], {name: tuple(codes) for name, codes in row["types"].items()}, row["url"])
        for row in digest("compartments")
        if not row["url"].endswith("/example")  # the example of R4 has the code of the device compartment
    }


def _profiles(_: Registry) -> dict[str, dict[str, Any]]:
    return {row["url"]: row for row in (*digest("profiles"), *own_definitions(STRUCTURES))}


def _operations(_: Registry) -> dict[str, Operation]:
    return {row["url"]: _operation_of(row) for row in digest("operations")}


def _search_parameter_of(row: dict[str, Any]) -> SearchParameter:
    return SearchParameter(
        url=row["url"],
        code=row["code"],
        type=row["type"],
        base=tuple(row.get("base", ())),
        expression=row.get("expression"),
        target=tuple(row.get("target", ())),
        component=tuple((c["definition"], c["expression"]) for c in row.get("component", ())),
        comparator=tuple(row.get("comparator", ())),
        modifier=tuple(row.get("modifier", ())),
    )


def _operation_of(row: dict[str, Any]) -> Operation:
    return Operation(
        url=row["url"],
        code=row["code"],
        name=row["name"],
        resource=tuple(row.get("resource", ())),
        system=row["system"],
        type=row["type"],
        instance=row["instance"],
        affects_state=row.get("affectsState", False),
        parameter=tuple(row["parameter"]),
    )
