"""A compiled FHIRPath expression, and how to come by one.

>>> from profiles.registry import registry
>>> expression = compile_expression("name.given.first()", registry=registry(), root_type="Patient")
>>> [item.value for item in expression.evaluate({"resourceType": "Patient", "name": [{"given": ["Ada"]}]})]
['Ada']

Spec: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from datetime import datetime
from decimal import DecimalException
from typing import Any

from fhir_server.fhirpath.analysis import check
from fhir_server.fhirpath.binary import as_truth
from fhir_server.fhirpath.engine import Compiler
from fhir_server.fhirpath.evaluation import (
    Conforms,
    Context,
    Evaluate,
    NarrativeCheck,
    Resolve,
    Terminology,
    Trace,
    Truth,
)
from fhir_server.fhirpath.items import Fault, Item, root_item
from fhir_server.fhirpath.kinds import Kind, Kinds, kinds_of
from fhir_server.fhirpath.nodes import Node
from fhir_server.fhirpath.parser import parsed
from fhir_server.fhirpath.quantities import Units
from fhir_server.model.errors import InvalidError
from profiles.registry import Registry

#: Expressions come from clients too: so many are kept.
_MOST = 2048


class Expression:
    """An expression, compiled once, evaluated as often as one likes, by any number of threads."""

    __slots__ = ("_condition", "_evaluate", "_kinds", "_node", "_root", "_single_as", "text")

    def __init__(self, text: str, node: Node, kinds: Kinds, root: Kind | None, *, single_as: bool) -> None:
        self.text = text
        self._node = node
        self._kinds = kinds
        self._root = root
        self._single_as = single_as
        compiler = Compiler(kinds, single_as=single_as)
        self._evaluate: Evaluate = compiler.evaluate(node)
        self._condition: Truth = compiler.truth(node)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(
        self,
        node: Any,
        *,
        variables: dict[str, Any] | None = None,
        resolve: Resolve | None = None,
        terminology: Terminology | None = None,
        units: Units | None = None,
        conforms: Conforms | None = None,
        narrative: NarrativeCheck | None = None,
        trace: Trace | None = None,
        now: datetime | None = None,
    ) -> list[Item]:
        """The items that the expression finds.

        Args:
            node: A resource, an element of the type that `root_type` named, or an `Item`.
            variables: By name without `%`: items, plain values, or lists of them. `resource` is needed where an
                element is evaluated without being reached from its resource.
            resolve: Finds what a reference names, when it is neither contained nor in the same Bundle.
            terminology: For `memberOf`, `subsumes`, `subsumedBy`, which are empty without it.
            units: Turns a value with a UCUM code to canonical units (`search.ucum.canonical`); without it
                quantities compare within one unit only.
            conforms: Whether a resource conforms to a profile; None for one that is not known.
            narrative: The check of `htmlChecks()`; without it a simple one is made.
            trace: Is handed the items of each `trace()`.
            now: The moment of `now()` and `today()`, with a zone; the clock's otherwise.

        Raises:
            InvalidError: 400; the expression cannot be evaluated on this node; the message names the place.
        """
        root = root_item(node, self._kinds, self._root)
        context = Context(root, self._kinds, variables, resolve, terminology, units, conforms, narrative, trace, now)
        try:
            return list(self._evaluate([root], context))
        except (Fault, DecimalException, RecursionError) as fault:
            raise self._refused(fault, context) from None

    def holds(
        self,
        node: Any,
        *,
        variables: dict[str, Any] | None = None,
        resolve: Resolve | None = None,
        terminology: Terminology | None = None,
        units: Units | None = None,
        conforms: Conforms | None = None,
        narrative: NarrativeCheck | None = None,
        trace: Trace | None = None,
        now: datetime | None = None,
    ) -> bool | None:
        """The expression as a condition, an invariant say: true, false, or None where it is empty.

        Arguments and errors are those of `evaluate`; it is faster, for it makes no collection of the answer.
        """
        root = root_item(node, self._kinds, self._root)
        context = Context(root, self._kinds, variables, resolve, terminology, units, conforms, narrative, trace, now)
        try:
            return self._condition([root], context)
        except (Fault, DecimalException, RecursionError) as fault:
            raise self._refused(fault, context) from None

    def _refused(self, fault: Fault | DecimalException | RecursionError, context: Context) -> InvalidError:
        """Run again, keeping account of the place, to tell where it failed."""
        if isinstance(fault, RecursionError):
            return _error(self.text, Fault("it is nested too deeply"))
        if isinstance(fault, DecimalException):
            return _error(self.text, Fault("a number is too large or too small to be computed with"))
        context.trace = None
        context.index, context.total, context.spent = 0, [], 0
        traced = Compiler(self._kinds, single_as=self._single_as, traced=True).evaluate(self._node)
        try:
            as_truth(traced([context.node], context))
        except Fault as found:
            return _error(self.text, found)
        return _error(self.text, fault)


def compile_expression(
    text: str,
    *,
    registry: Registry,
    root_type: str | None = None,
    single_as: bool = False,
    check_order: bool = False,
) -> Expression:
    """Compile an expression, or give the one that was compiled from the same words before.

    Args:
        text: FHIRPath.
        registry: The definitions of the types.
        root_type: What it will be evaluated on: a type (`Patient`), or the path of an element (`Patient.contact`).
            If it is given, names of elements that cannot be there are refused now; without it nothing is known of
            them, and they find nothing.
        single_as: Whether `as` refuses a collection of several items, as FHIRPath has it; R4's own invariants and
            search parameters do not keep to that, so it is not the rule here.
        check_order: Whether functions that take items by their place are refused on collections without an order
            (`children().first()`).

    Raises:
        InvalidError: 400; the text is no FHIRPath, or names a function, type or element that does not exist.
    """
    return registry.shared(_compiled, _MOST)(text, root_type, single_as, check_order)


def _compiled(registry: Registry, text: str, root_type: str | None, single_as: bool, check_order: bool) -> Expression:
    node = parsed(text)
    kinds = kinds_of(registry)
    root = None
    try:
        if root_type is not None:
            root = kinds.named(root_type)
            if root is None:
                raise Fault(f"{root_type!r}, on which it is to be evaluated, is no type", 0)
            check(node, root, kinds, check_order=check_order)
        return Expression(text, node, kinds, root, single_as=single_as)
    except Fault as fault:
        raise _error(text, fault) from None


def _error(text: str, fault: Fault) -> InvalidError:
    place = "" if fault.at is None else f" at position {fault.at + 1}"
    reason = f"The FHIRPath expression cannot be evaluated{place}: {fault.reason}: {text[:200]}"
    return InvalidError(reason, key="HS-FHIRPATH-EVALUATION")
