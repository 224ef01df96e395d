"""The invariants of a profile, in FHIRPath, on the element that states them.

Spec: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import DecimalException
from typing import TYPE_CHECKING

from fhir_server.fhirpath.engine import Compiler as PathCompiler
from fhir_server.fhirpath.items import Fault, Item
from fhir_server.fhirpath.parser import parsed
from fhir_server.model.errors import InvalidError, Severity
from fhir_server.validation.invariants import GUARANTEED, found_in, members_read
from fhir_server.validation.profile.definition import Node, Structure
from fhir_server.validation.profile.findings import Place, path_of
from fhir_server.validation.profile.run import Check, Run
from profiles.registry import Invariant, Registry

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf


#: Functions by which an expression may ask for a value set, itself or by the profile that it names.
_ASKING = ("memberOf", "conformsTo")


def base_invariants(registry: Registry) -> frozenset[tuple[str, str]]:
    """The invariants of the base types, by key and expression: those are checked with the structure."""
    return registry.shared(_base_invariants)()


def _base_invariants(registry: Registry) -> frozenset[tuple[str, str]]:
    return frozenset(
        (invariant.key, invariant.expression)
        for definition in registry.types.values()
        for element in definition.elements.values()
        for invariant in element.invariants
    )


def constraint_checks(node: Node, structure: Structure, shelf: Shelf) -> Iterator[Check]:
    """The checks of those invariants that the base type does not have."""
    known = base_invariants(shelf.kinds.registry)
    for constraint in node.constraints:
        is_base = (constraint.key, constraint.expression) in known or constraint.key.startswith("dom-")
        if not is_base and constraint.key not in GUARANTEED:
            yield _constraint_check(constraint, Place(structure.canonical, constraint.key), shelf)


def _constraint_check(constraint: Invariant, place: Place, shelf: Shelf) -> Check:
    severity: Severity = "error" if constraint.severity == "error" else "warning"
    human = constraint.human.strip().rstrip(".")
    try:
        node = parsed(constraint.expression)
        truth = PathCompiler(shelf.kinds).truth(node)
    except (Fault, InvalidError) as error:
        return _failing(constraint.key, str(error), place)
    names = tuple(dict.fromkeys(members_read(node)))
    may_doubt = any(name in constraint.expression for name in _ASKING)

    def check(item: Item, run: Run) -> None:
        try:
            if may_doubt:
                verdict, doubtful = run.members.judged(lambda: truth([item], run.context(item)))
                if doubtful:
                    _tell_doubt(constraint.key, doubtful, item, place, run)
                    return
            else:
                verdict = truth([item], run.context(item))
            if verdict is not False:
                return
        except Fault as fault:
            _tell_failure(constraint.key, fault.reason, item, place, run)
            return
        except DecimalException:
            _tell_failure(constraint.key, "a number is too large or too small", item, place, run)
            return
        text = f"Found {found_in(item.value, names)}; expected as {human} ({constraint.expression})"
        run.findings.tell("HS-PROFILE-INVARIANT", "invariant", path_of(item), text, place, severity=severity)

    return check


def _tell_doubt(key: str, value_sets: Sequence[str], item: Item, place: Place, run: Run) -> None:
    named = ", ".join(value_sets)
    text = f"Not checked: the invariant {key} asks for codes of {named}, which are not all known here"
    run.findings.tell("HS-PROFILE-UNCHECKED", "informational", path_of(item), text, place, severity="information")


def _failing(key: str, reason: str, place: Place) -> Check:
    return lambda item, run: _tell_failure(key, reason, item, place, run)


def _tell_failure(key: str, reason: str, item: Item, place: Place, run: Run) -> None:
    text = f"Not checked: the invariant {key} cannot be evaluated: {reason}"
    run.findings.tell("HS-PROFILE-UNCHECKED", "informational", path_of(item), text, place, severity="information")
