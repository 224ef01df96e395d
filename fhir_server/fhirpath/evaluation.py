"""What one evaluation carries along, and the shapes of compiled expressions.

Spec: http://hl7.org/fhirpath/N1/#environment-variables
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from fhir_server.fhirpath.items import Fault, Item, Items, items_of
from fhir_server.fhirpath.kinds import Kinds
from fhir_server.fhirpath.quantities import Units


class Terminology(Protocol):
    """What `memberOf` and `subsumes` ask; `profiles.terminology.Terminology` is one."""

    def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a value set has a code (without a system: one that the element implies); None: not known."""

    def descendants(self, system: str, code: str) -> frozenset[str] | None:
        """The code and all below it; None where the code system is not known."""


#: Finds what a reference names; None where it cannot be found.
Resolve = Callable[[str], dict[str, Any] | None]
#: Whether a resource conforms to a profile; None where the profile is not known.
Conforms = Callable[[dict[str, Any], str], bool | None]
#: Is given the name and the items of every `trace()`.
Trace = Callable[[str, Items], None]
#: Whether the text of a `Narrative.div` is what FHIR allows.
NarrativeCheck = Callable[[str], bool]


#: Some seconds of work; the invariants of a Bundle with ten thousand entries take a tenth.
_MAX_SPENT = 5_000_000


class Context:
    """One evaluation: its node, its variables, and the ports to what lies outside the language."""

    __slots__ = (
        "conforms",
        "entries",
        "index",
        "kept",
        "kinds",
        "moment",
        "narrative",
        "node",
        "resolve",
        "spent",
        "terminology",
        "total",
        "trace",
        "units",
        "variables",
    )

    def __init__(
        self,
        node: Item,
        kinds: Kinds,
        variables: dict[str, Any] | None,
        resolve: Resolve | None,
        terminology: Terminology | None,
        units: Units | None,
        conforms: Conforms | None,
        narrative: NarrativeCheck | None,
        trace: Trace | None,
        moment: datetime | None,
    ) -> None:
        self.node = node
        self.kinds = kinds
        self.variables = variables
        self.resolve = resolve
        self.terminology = terminology
        self.units = units
        self.conforms = conforms
        self.narrative = narrative
        self.trace = trace
        self.moment = moment
        self.index = 0
        #: Where the entries of Bundles are, by their addresses; None where that is not kept from one evaluation to the
        #: next, which is right only while the Bundles do not change.
        self.entries: dict[int, dict[str, Item]] | None = None
        #: The descendants of variables, which an expression may ask for once per item.
        self.kept: dict[str, Items] = {}
        self.total: Items = []
        self.spent = 0

    def spend(self, items: int) -> None:
        """Count the items that a function is about to go through; loops within loops are thereby bounded."""
        self.spent += items
        if self.spent > _MAX_SPENT:
            raise Fault(f"the expression goes through more than {_MAX_SPENT} items")

    def now(self) -> datetime:
        """The moment of this evaluation, which is the same however often it is asked for."""
        if self.moment is None:
            self.moment = datetime.now(UTC)
        return self.moment

    def variable(self, name: str) -> Items:
        """The value of `%name`.

        `%resource` is, unless given, the resource that the node is in; `%rootResource` the outermost one known.
        """
        given = self.variables
        if given is not None and name in given:
            return items_of(given[name], self.kinds)
        if name == "context":
            return [self.node]
        if name == "rootResource" and given is not None and "resource" in given:
            return items_of(given["resource"], self.kinds)
        if name in ("resource", "rootResource"):
            found = _resource_around(self.node, outermost=name == "rootResource")
            if found is not None:
                return [found]
        raise Fault(f"the variable %{name} is not known here")


def _resource_around(node: Item, *, outermost: bool) -> Item | None:
    found: Item | None = None
    at: Item | None = node
    while at is not None:
        if at.kind.is_resource:
            found = at
            # A contained resource is part of the resource that contains it; one of a Bundle stands alone.
            if not (outermost and at.key == "contained"):
                return found
        at = at.parent
    return found


#: A compiled expression: from the focus to a collection.
Evaluate = Callable[[Items, Context], Items]
#: A compiled condition: from the focus to true, false or unknown.
Truth = Callable[[Items, Context], bool | None]
