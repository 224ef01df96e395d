"""One validation under way: what it has found, and what it asks for on its way.

Spec: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Item, root_item
from fhir_server.model.errors import InvalidError
from fhir_server.validation.profile.findings import Findings, Place, path_of
from fhir_server.validation.profile.members import Answers, Asking, Members

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf


class Known:
    """What one validation has found out, in all its parts.

    `verdicts` says of what references lead to, which conforms to which profile; `entries` where those of Bundles are;
    `members` which codes are in value sets of which not all is held.
    """

    __slots__ = ("entries", "members", "verdicts")

    def __init__(self, answers: Answers | None = None) -> None:
        self.members = Members(answers)
        self.verdicts: dict[tuple[int, str], bool | None] = {}
        self.entries: dict[int, dict[str, Item]] = {}


class Run:
    """Collects findings; `shelf` has the profiles and value sets that are held."""

    def __init__(
        self,
        shelf: Shelf,
        within: frozenset[tuple[int, str]] = frozenset(),
        *,
        support: bool = False,
        follows: bool = True,
        known: Known | None = None,
    ) -> None:
        self.shelf = shelf
        #: Whether what references lead to is looked at; what that refers to in turn is not.
        self.follows = follows
        self._known = Known() if known is None else known
        self._terminology = Asking(shelf.terminology, self._known.members)
        self.findings = Findings()
        #: Whether elements that must be supported are told where they are not there.
        self.support = support
        #: What is being validated against which profile: a profile that demands itself ends there.
        self._within = within

    def apart(self) -> Run:
        """The same validation with findings of its own."""
        return Run(self.shelf, self._within, support=self.support, follows=self.follows, known=self._known)

    @property
    def members(self) -> Members:
        return self._known.members

    def context(self, item: Item) -> Context:
        """What an expression on an item is evaluated with."""
        shelf = self.shelf
        context = Context(
            item, shelf.kinds, None, None, self._terminology, shelf.units, self._value_conforms, None, None, None
        )
        context.entries = self._known.entries
        return context

    def conforms(self, item: Item, canonical: str) -> bool | None:
        """Whether an item conforms to a profile; None for one that is not held."""
        trial = self.trial(item, canonical)
        return None if trial is None else not trial.findings.has_errors()

    def trial(self, item: Item, canonical: str) -> Run | None:
        """Validate an item against a profile, apart; None for one that is not held."""
        check = self.shelf.check_of(canonical, support=self.support)
        if check is None:
            return None
        run = Run(
            self.shelf,
            self._within | {(id(item.value), canonical)},
            support=self.support,
            follows=self.follows,
            known=self._known,
        )
        if (id(item.value), canonical) not in self._within:
            check(item, run)
        return run

    def target_conforms(self, target: Item, canonical: str) -> bool | None:
        """Whether what a reference leads to conforms to a profile; None for one that is not held."""
        key = id(target.value), canonical
        verdicts = self._known.verdicts
        if key in verdicts:
            return verdicts[key]
        verdict = Run(self.shelf, self._within, follows=False, known=self._known).conforms(target, canonical)
        if not self.members.is_assuming:
            verdicts[key] = verdict
        return verdict

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


def validated(
    shelf: Shelf,
    items: Sequence[Item],
    asked: Sequence[str],
    known: Known,
    *,
    claims: bool = True,
    support: bool = False,
) -> Findings:
    """What profiles say of a resource and of those in it, the first of which is held to those that are `asked` for.

    `known` is of this validation alone.

    Raises:
        InvalidError: 400; a profile that is asked for is not held, or cannot be used.
    """
    require_held(shelf, asked)
    run = Run(shelf, support=support, known=known)
    for canonical in asked:
        _validate(run, items[0], canonical)
    for item, at, canonical in _claims(items) if claims else ():
        if canonical not in asked and not _validate(run, item, canonical):
            path = f"{path_of(item)}.meta.profile[{at}]"
            text = f"The profile {canonical} is claimed and was not looked at: {shelf.why_not(canonical)}"
            run.findings.tell("HS-PROFILE-UNKNOWN", "not-found", path, text, None, severity="warning")
    return run.findings


def require_held(shelf: Shelf, asked: Sequence[str]) -> None:
    """Profiles that are asked for are held and can be used.

    Raises:
        InvalidError: 400; one of them is not, or cannot.
    """
    for canonical in asked:
        if shelf.check_of(canonical) is None:
            raise InvalidError(
                f"The profile {canonical[:200]!r} cannot be validated against: {shelf.why_not(canonical)}.",
                code="not-supported",
                key="HS-OP-PROFILE",
            )


def _claims(items: Iterable[Item]) -> Iterator[tuple[Item, int, str]]:
    for item in items:
        for at, canonical in enumerate(declared_by(item.value)):
            yield item, at, canonical


def _validate(run: Run, item: Item, canonical: str) -> bool:
    """Validate against a profile; False for one that is not held."""
    try:
        trial = run.trial(item, canonical)
    except RecursionError:
        text = f"Not checked against the profile {canonical}: the resource, or what the profile asks, is too deep"
        run.findings.tell("HS-PROFILE-UNCHECKED", "too-costly", path_of(item), text, None, severity="information")
        return True
    if trial is None:
        return False
    run.findings.add(trial.findings)
    return True


def declared_by(resource: dict[str, Any]) -> list[str]:
    """The profiles that a resource claims (`meta.profile`)."""
    meta = resource.get("meta")
    found = meta.get("profile") if isinstance(meta, dict) else None
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
