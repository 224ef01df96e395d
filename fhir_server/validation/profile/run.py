"""One validation under way: what it has found, and what it asks for on its way.

Spec: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Item, root_item
from fhir_server.validation.profile.findings import Findings, Place, path_of

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf


class Run:
    """Collects findings; `shelf` has the profiles and value sets that are held."""

    def __init__(self, shelf: Shelf, within: frozenset[tuple[int, str]] = frozenset()) -> None:
        self.shelf = shelf
        self.findings = Findings()
        #: What is being validated against which profile: a profile that demands itself ends there.
        self._within = within

    def context(self, item: Item) -> Context:
        """What an expression on an item is evaluated with."""
        shelf = self.shelf
        return Context(
            item, shelf.kinds, None, None, shelf.terminology, shelf.units, self._value_conforms, None, None, None
        )

    def conforms(self, item: Item, canonical: str) -> bool | None:
        """Whether an item conforms to a profile; None for one that is not held."""
        trial = self.trial(item, canonical)
        return None if trial is None else not trial.findings.has_errors()

    def trial(self, item: Item, canonical: str) -> Run | None:
        """Validate an item against a profile, apart; None for one that is not held."""
        check = self.shelf.check_of(canonical)
        if check is None:
            return None
        run = Run(self.shelf, self._within | {(id(item.value), canonical)})
        if (id(item.value), canonical) not in self._within:
            check(item, run)
        return run

    def _value_conforms(self, value: dict[str, Any], canonical: str) -> bool | None:
        return self.conforms(root_item(value, self.shelf.kinds), canonical)

    def validate(self, item: Item, canonical: str, place: Place) -> None:
        """Validate an item against a profile that some element asks for; one that is not held is told."""
        trial = self.trial(item, canonical)
        if trial is None:
            self.not_held(item, canonical, place)
            return
        self.findings.add(trial.findings)

    def not_held(self, item: Item, canonical: str, place: Place) -> None:
        self.findings.tell(
            "HS-PROFILE-UNCHECKED",
            "informational",
            path_of(item),
            f"Not checked against the profile {canonical}: {self.shelf.why_not(canonical)}",
            place,
            severity="information",
        )


#: Looks at one item.
Check = Callable[[Item, Run], None]
