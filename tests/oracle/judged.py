"""The kinds of differences that were looked at, each with who is right; `docs/validation-oracle.md` has the reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.oracle.cases import Case


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of difference.

    Attributes:
        name: as the document has it
        ours: what each error of ours looks like, where theirs has none
        theirs: what each error of theirs looks like, where ours has none
    """

    name: str
    ours: str = ""
    theirs: str = ""

    def has(self, case: Case, theirs: tuple[str, ...]) -> bool:
        pattern, errors = (self.ours, case.errors) if case.errors else (self.theirs, theirs)
        return bool(pattern) and all(re.search(pattern, error) for error in errors)


KINDS = (
    Kind("array where none may be, or none where one must be", ours="HS-VAL-JSON-TYPE Found .*expected an array"),
    Kind("code of a value set that is made by a filter", ours=r"HS-VAL-BINDING .*ValueSet/(units-of-time|task-intent)"),
    Kind("code system that is not held", theirs=r"Unknown Code System http://hl7\.org/fhir/us/core/"),
    Kind("condition instead of a reference", ours="HS-VAL-CONDITIONAL"),
    Kind("control character", ours="HS-VAL-CHARACTER"),
    Kind("element that is empty", ours="HS-VAL-EMPTY"),
    Kind("event handler in a narrative", ours="HS-VAL-NARRATIVE-ATTRIBUTE Found onclick"),
    Kind("extension without a URL", ours=r"extension\[0\]\.url: HS-VAL-REQUIRED"),
    Kind("full URL that is of another resource", ours="HS-CONTENT-BUNDLE Found the fullUrl"),
    Kind("hash that is none of the data", ours="HS-CONTENT-ATTACHMENT Found the hash"),
    Kind("id that is none", ours="HS-VAL-ID"),
    Kind(
        "invariant of an element that repeats another", ours=r"Questionnaire\.item\[0\]\.item\[\d\]: HS-VAL-INVARIANT"
    ),
    Kind("reference that leads to no resource", ours="HS-VAL-REFERENCE"),
    Kind("reference to a type that the profile does not allow", ours="HS-PROFILE-TARGET"),
    Kind("unit that is none of UCUM", ours="HS-CONTENT-UNIT"),
)


def judgement_of(case: Case, theirs: tuple[str, ...]) -> str | None:
    """The name of the kind that a difference is of; None of one that nobody has looked at."""
    return next((kind.name for kind in KINDS if kind.has(case, theirs)), None)
