"""The invariants of types and elements: rules in FHIRPath, each compiled once for the place where it stands.

They are asked where the object in question is of right structure; what they say of any other would be chance. Those
that the structure itself guarantees are not asked a second time.

Spec: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import DecimalException
from typing import Any

from fhir_server.fhirpath.conditions import Condition
from fhir_server.fhirpath.direct import Direct, reads
from fhir_server.fhirpath.engine import Compiler
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Fault as PathFault
from fhir_server.fhirpath.items import Item, Items, children
from fhir_server.fhirpath.kinds import Kind, kinds_of
from fhir_server.fhirpath.nodes import Binary, Call, Index, Member, Node, TypeOperation, Unary
from fhir_server.fhirpath.parser import parsed
from fhir_server.fhirpath.quantities import Units
from fhir_server.model.errors import Severity
from fhir_server.validation.fault import Check, Fault, Found, are_readable, shown
from profiles.registry import Element, Invariant, Registry, TypeDefinition

#: Invariants that cannot be broken by what the structure validation lets pass, each with what takes its place.
GUARANTEED = {
    "ele-1": "empty objects are HS-VAL-EMPTY",
    "ext-1": "HS-VAL-EXTENSION",
    "ref-1": "HS-VAL-FRAGMENT",
    "dom-2": "HS-VAL-CONTAINED-NESTED",
    "txt-1": "HS-VAL-NARRATIVE-…",
    "txt-2": "HS-VAL-NARRATIVE-EMPTY, a warning: official examples break it, and no reader comes to harm",
}

#: Expressions of R4 that do not say what their text says, with what does.
CORRECTED = {
    # `Boolean` is FHIRPath's own type, which no element of FHIR is of.
    "operator = 'exists' implies (answer is Boolean)": "operator = 'exists' implies (answer is boolean)",
    # What is absent is not equal; `{} or false` would be empty, and broken by nothing.
    "repeats=true or initial.count() <= 1": "(repeats.exists() and repeats) or initial.count() <= 1",
    "code.exists() or abstract = true": "code.exists() or (abstract.exists() and abstract)",
    "(low.empty() or ((low.code = '%') and (low.system = %ucum))) and "
    "(high.empty() or ((high.code = '%') and (high.system = %ucum)))": (
        "(low.empty() or low.where(code = '%' and system = %ucum).exists()) and "
        "(high.empty() or high.where(code = '%' and system = %ucum).exists())"
    ),
}

#: Variables by which an expression looks beyond the element that it stands at.
_SURROUNDINGS = frozenset({"resource", "rootResource"})

#: So many members are told of what was found.
_MAX_TOLD = 6

_TYPES = "http://hl7.org/fhir/StructureDefinition/"

EVALUATION_FAULTS = (PathFault, DecimalException, RecursionError)


@dataclass(frozen=True, slots=True)
class Rule:
    """An invariant at its place: its condition, and what to tell where that is false."""

    invariant: Invariant
    condition: Condition
    source: str
    read: tuple[str, ...]

    def broken(self, value: Any) -> Fault:
        invariant = self.invariant
        text = (
            f"Found {found_in(value, self.read)}; expected by {invariant.key}: {invariant.human.strip().rstrip('.')} "
            f"({invariant.expression})."
        )
        severity: Severity = "error" if invariant.severity == "error" else "warning"
        return Fault("HS-VAL-INVARIANT", "invariant", text, severity=severity, rule=(self.source, invariant.key))

    def failed(self, error: BaseException) -> Fault:
        reason = error.reason if isinstance(error, PathFault) else "its numbers or its depth are beyond all bounds"
        text = f"The invariant {self.invariant.key} could not be evaluated: {reason}."
        rule = (self.source, self.invariant.key)
        return Fault("HS-VAL-INVARIANT-FAILED", "processing", text, severity="warning", rule=rule)


class Invariants:
    """Makes the checks of the invariants of one registry; those of best practice only with `advice`."""

    def __init__(self, registry: Registry, units: Units | None = None, *, advice: bool = False) -> None:
        self._registry = registry
        self._kinds = kinds_of(registry)
        self._units = units
        self._advice = advice
        self._direct = Direct(self._kinds, units)

    def of(self, element: Element, kind_name: str) -> Check | None:
        """The check of an element's own invariants on a value; None where there is nothing to check.

        Args:
            element: the element that carries them, which may be the root of a type
            kind_name: what the values are: a type, or the path of an element with members of its own
        """
        kind = self._kinds.named(kind_name)
        assert kind is not None, kind_name
        at_root = kind.is_resource
        rules = [
            self._rule(invariant, node, kind, element)
            for invariant, node in self._asked(element)
            if at_root or not self.reads_surroundings(node)
        ]
        return check_of(rules) if rules else None

    def from_root(self, definition: TypeDefinition) -> list[Check]:
        """The invariants of elements further down that look at the resource they are in, as checks of that."""
        return [
            self._check_from_root(definition, element, invariant, node)
            for path, element in definition.elements.items()
            if path != definition.name
            for invariant, node in self._asked(element)
            if self.reads_surroundings(node)
        ]

    @staticmethod
    def reads_surroundings(node: Node) -> bool:
        """Whether an expression looks beyond the element it stands at: at the resource, or at what it refers to."""
        return reads(node, _SURROUNDINGS)

    def _asked(self, element: Element) -> Iterator[tuple[Invariant, Node]]:
        for invariant in element.invariants:
            if invariant.key in GUARANTEED or (invariant.best_practice and not self._advice):
                continue
            if invariant.expression:
                yield invariant, parsed(CORRECTED.get(invariant.expression, invariant.expression))

    def _rule(self, invariant: Invariant, node: Node, kind: Kind, element: Element) -> Rule:
        condition = self._direct.condition(node, kind)
        if invariant.key == "dom-3":
            condition = unless_all_contained_are_referred_to(condition)
        return Rule(invariant, condition, self._source(invariant, element), tuple(dict.fromkeys(members_read(node))))

    def _source(self, invariant: Invariant, element: Element) -> str:
        """The canonical of the type that states an invariant: of `dom-3` DomainResource, not each resource type."""
        name = element.path.partition(".")[0]
        while element.path == name and (base := self._registry.types[name].base) in self._registry.types:
            assert base is not None
            root = self._registry.types[base].elements[base]
            if invariant.key not in {i.key for i in root.invariants}:
                break
            name, element = base, root
        return _TYPES + name

    def _check_from_root(self, definition: TypeDefinition, element: Element, invariant: Invariant, node: Node) -> Check:
        kinds, units = self._kinds, self._units
        root_kind, kind = kinds.named(definition.name), kinds.named(element.path)
        assert root_kind is not None
        assert kind is not None
        truth = Compiler(kinds).truth(node)
        early = self._direct.early(node, kind)
        steps = element.path.split(".")[1:]

        def condition(item: Item) -> bool | None:
            if early is not None and early(item.value):
                return True
            return truth([item], Context(item, kinds, None, None, None, units, None, None, None, None))

        rule = Rule(invariant, condition, self._source(invariant, element), tuple(dict.fromkeys(members_read(node))))

        def check(value: Any) -> Found:
            if steps[0] not in value:
                return None
            items: Items = [Item(value, root_kind, key=definition.name)]
            for step in steps:
                items = [child for item in items for child in children(item, step)]
            faults = []
            for item in items:
                fault = _answered(rule, item, item.value)
                if fault is not None:
                    fault.path = item.path.removeprefix(f"{definition.name}.")
                    faults.append(fault)
            return faults or None

        return check


def check_of(rules: list[Rule]) -> Check:
    """One check of several rules."""
    conditions = [(rule.condition, rule) for rule in rules]

    def check(value: Any) -> Found:
        faults: Found = None
        for condition, rule in conditions:
            try:
                if condition(value) is not False:
                    continue
                fault = rule.broken(value)
            except EVALUATION_FAULTS as error:
                fault = rule.failed(error)
            if faults is None:
                faults = []
            faults.append(fault)
        return faults

    return check


def unless_all_contained_are_referred_to(condition: Condition) -> Condition:
    """`dom-3`, which gathers all descendants once for each contained resource, where a look at the JSON does not do.

    A Reference to each contained resource, which nearly every resource with contained ones has, makes it true.
    """

    def evaluate(value: Any) -> bool | None:
        if "contained" not in value:
            return True
        wanted = {f"#{contained.get('id')}" for contained in value["contained"]}
        nodes: list[Any] = [value]
        for node in nodes:  # it grows meanwhile: level by level, since references stand high up
            if type(node) is dict:
                reference = node.get("reference")
                if type(reference) is str and reference[:1] == "#":
                    wanted.discard(reference)
                    if not wanted:
                        return True
                nodes += node.values()
            elif type(node) is list:
                nodes += node
        return condition(value)

    return evaluate


def _answered(rule: Rule, subject: Any, value: Any) -> Fault | None:
    try:
        return rule.broken(value) if rule.condition(subject) is False else None
    except EVALUATION_FAULTS as error:
        return rule.failed(error)


def ruled(check: Check, rules: Check) -> Check:
    """A check, and then the rules where it leaves the value readable."""

    def both(value: Any) -> Found:
        faults = check(value)
        if faults is None:
            return rules(value)
        if not are_readable(faults):
            return faults
        found = rules(value)
        return faults if found is None else faults + found

    return both


def found_in(value: Any, names: Iterable[str]) -> str:
    """What a value has of some members, in few words: `code 'kg', no system`."""
    if type(value) is not dict:
        return shown(value)
    told = []
    for name in names:
        keys = [key for key in value if key == name or (key.startswith(name) and key[len(name) :][:1].isupper())]
        told += [f"{key} {shown(value[key])}" for key in keys] or [f"no {name}"]
    if not told:
        return shown(value)
    return ", ".join(told[:_MAX_TOLD]) + (", …" if len(told) > _MAX_TOLD else "")


def members_read(node: Node) -> Iterator[str]:
    """The names that an expression looks up in the value itself."""
    match node:
        case Member(None, name):
            yield name
        case Member(source) | TypeOperation(_, source) | Unary(_, source):
            if source is not None:
                yield from members_read(source)
        case Call(source, _, arguments):
            if source is not None:
                yield from members_read(source)
            else:
                for argument in arguments:
                    yield from members_read(argument)
        case Binary(_, left, right) | Index(left, right):
            yield from members_read(left)
            yield from members_read(right)
