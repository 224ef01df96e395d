"""From the tree of a `_filter` to predicates: each comparison means what a search parameter with a prefix or modifier
means, or is a `Test` where no parameter can say it.

A path of several names is a chain through references (`subject.name`), or leads into an element for which there is a
search parameter of its own (`name.family` is `family`).

Spec: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.chains import chain_of
from fhir_server.search.filter.grammar import Logical, Negation, Node, Path, Step, fault, tree_of
from fhir_server.search.parameters import ParameterTable, table_of
from fhir_server.search.query import (
    AllOf,
    AnyOf,
    Comparison,
    DateValue,
    MissingValue,
    Not,
    Parameter,
    Predicate,
    Test,
    Value,
)
from profiles.registry import Registry

ORDERED = ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb")

#: By the type of a parameter, what the operators are: a modifier, a prefix of the value (`^`), or a test (`?`).
MEANINGS: dict[str, dict[str, str]] = {
    "string": {"sw": "", "co": "contains"} | dict.fromkeys(("eq", "ne", "ew", "gt", "lt", "ge", "le"), "?"),
    "token": {"eq": "", "in": "in", "ss": "below", "sb": "above"} | dict.fromkeys(("ne", "co", "sw", "ew"), "?"),
    "reference": {"eq": "", "re": "", "ne": "?"},
    "uri": {"eq": "", "re": ""} | dict.fromkeys(("ne", "co", "sw", "ew"), "?"),
    "date": dict.fromkeys((*ORDERED, "po"), "^"),
    "number": dict.fromkeys(ORDERED, "^"),
    "quantity": dict.fromkeys(ORDERED, "^"),
    "composite": {"eq": ""},
    "special": {"eq": ""},
}

#: Reads a value: parameter, name, modifier, text.
ReadValue = Callable[[Parameter, str, str | None, str], Value]

FILTER = "_filter"


def predicate_of(
    resource_type: str, text: str, registry: Registry, read: ReadValue, step: Callable[[], None]
) -> Predicate:
    """The predicate that a `_filter` is; `step` is told of each link to another type, and may refuse it.

    Raises:
        InvalidError: 400; it does not follow the grammar, or names a parameter, operator or value that is none.
    """
    return _Builder(text, registry, read, step).of(tree_of(text), table_of(resource_type, registry))


@dataclass(frozen=True, slots=True)
class _Builder:
    text: str
    registry: Registry
    read: ReadValue
    step: Callable[[], None]

    def of(self, node: Node, table: ParameterTable) -> Predicate:
        match node:
            case Logical("and", left, right):
                return AllOf((self.of(left, table), self.of(right, table)))
            case Logical(_, left, right):
                return AnyOf((self.of(left, table), self.of(right, table)))
            case Negation(operand):
                return Not(self.of(operand, table))
            case Path():
                return self._of_path(node, node.steps, table)

    def _of_path(self, path: Path, steps: tuple[Step, ...], table: ParameterTable) -> Predicate:
        first, *further = steps
        if not further:
            return self._test(path, self._parameter(path, first.name, table))
        parameter = table.parameters.get(first.name.partition(":")[0])
        if parameter is None or parameter.type != "reference":
            return self._test(path, self._inner(path, steps, table))

        def link(resource_type: str, _: str) -> Predicate:
            self.step()
            target = table_of(resource_type, self.registry)
            found = self._of_path(path, tuple(further), target)
            return found if first.filter is None else AllOf((self.of(first.filter, target), found))

        chain = chain_of(table, f"{first.name}.{further[0].name}", link)
        if chain is None or isinstance(chain, Issue):
            raise self._unknown(path, further[0].name, table)
        return chain

    def _parameter(self, path: Path, name: str, table: ParameterTable) -> Parameter:
        parameter = table.parameters.get(name)
        if parameter is None:
            raise self._unknown(path, name, table)
        return parameter

    def _inner(self, path: Path, steps: tuple[Step, ...], table: ParameterTable) -> Parameter:
        """The parameter that finds an element below that of the first name: `name.family` is `family`."""
        names = [step.name for step in steps]
        if any(step.filter for step in steps):
            raise fault(self.text, path.at, f"a filter in brackets needs a reference, and {names[0]!r} is none")
        ways = table.ways_of(names[0])
        if not ways:
            raise self._unknown(path, names[0], table)
        wanted = frozenset(".".join((way, *names[1:])) for way in ways)
        for code, parameter in table.parameters.items():
            if table.ways_of(code) & wanted:
                return parameter
        raise fault(self.text, path.at, f"{table.resource_type} has no search parameter for {'.'.join(names)!r}")

    def _test(self, path: Path, parameter: Parameter) -> Predicate:
        if path.operator == "pr":
            if path.value not in ("true", "false"):
                raise fault(self.text, path.at, "`pr` is followed by true or false")
            return Comparison(parameter, "missing", (MissingValue(path.value == "false"),))
        meaning = MEANINGS[parameter.type].get(path.operator)
        if meaning is None:
            known = ", ".join((*MEANINGS[parameter.type], "pr"))
            raise fault(
                self.text, path.at, f"{parameter.code!r} is a {parameter.type} parameter, for which there is {known}"
            )
        try:
            return self._comparison(path, parameter, meaning)
        except InvalidError as error:
            raise fault(self.text, path.at, error.issues[0].diagnostics.rstrip(".")) from None

    def _comparison(self, path: Path, parameter: Parameter, meaning: str) -> Predicate:
        escaped = path.value.replace("\\", "\\\\")
        if parameter.field == "_id" and path.operator in ("eq", "ne"):
            found = Comparison(parameter, None, (self.read(parameter, parameter.code, None, escaped),))
            return found if path.operator == "eq" else Not(found)
        if parameter.field == "_id":
            raise fault(self.text, path.at, "`_id` has the operators eq and ne")
        if meaning == "?":
            return Test(parameter, path.operator, self.read(parameter, parameter.code, None, escaped))
        if meaning == "^":
            prefix = "eq" if path.operator == "po" else path.operator
            value = self.read(parameter, parameter.code, None, prefix + escaped)
            if path.operator == "po" and isinstance(value, DateValue):
                value = DateValue("ap", value.start_us, value.end_us)  # "meets the span", which is not widened here
            return Comparison(parameter, None, (value,))
        modifier = meaning or None
        return Comparison(parameter, modifier, (self.read(parameter, parameter.code, modifier, escaped),))

    def _unknown(self, path: Path, name: str, table: ParameterTable) -> InvalidError:
        return fault(self.text, path.at, table.unknown(name).diagnostics.rstrip("."))
