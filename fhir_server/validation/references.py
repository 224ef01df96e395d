"""Checks of literal references: form, known type, and a type that the element allows.

Spec: https://hl7.org/fhir/R4/references.html#literal
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from fhir_server.validation.fault import Check, ConditionalReference, Fault, Found, FragmentReference, Json, shown
from fhir_server.validation.primitives import string

LITERAL = re.compile(r"(https?://[^\s?#]+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")
RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#\S+)?")
CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?[^\s?]+")
ABSOLUTE = re.compile(r"https?://[^\s/?#]\S*")
URN = re.compile(
    r"urn:uuid:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"
)
TYPE_CANONICAL = "http://hl7.org/fhir/StructureDefinition/"

EXPECTED = "Type/id, an absolute http(s) address, urn:uuid:…, urn:oid:… or #id"


class References:
    """Makes the checks; knows the resource types."""

    def __init__(self, is_resource_type: Callable[[str], bool]) -> None:
        self._is_resource_type = is_resource_type

    def allowed(self, targets: Iterable[str]) -> frozenset[str] | None:
        """The types that an element may refer to; None when any will do."""
        types = frozenset(targets)
        return None if not types or types & {"Resource", "Any"} else types

    def literal(self, targets: frozenset[str] | None) -> Check:
        """The check of `Reference.reference`."""
        relative = RELATIVE.fullmatch
        known = self._is_resource_type

        def check(value: Any) -> Found:
            if type(value) is str and (match := relative(value)) is not None:
                name = match.group(1)
                if name in targets if targets is not None else known(name):
                    return None
            return self._closely(value, targets)

        return check

    def _closely(self, value: Any, targets: frozenset[str] | None) -> Found:
        found = string(value)
        if found is not None and found[0].severity == "error":
            return found
        if value[0] == "#":
            return [FragmentReference(value, targets)]
        if match := RELATIVE.fullmatch(value):
            return self._of_type(value, match.group(1), targets)
        if match := CONDITIONAL.fullmatch(value):
            faults = self._of_type(value, match.group(1), targets) or []
            if not any(fault.severity == "error" for fault in faults):
                # Also beside the warning of another type: what nobody resolves must not be stored.
                faults.append(
                    ConditionalReference(
                        "HS-VAL-CONDITIONAL",
                        "value",
                        f"Found the conditional reference {shown(value)}, which only a transaction can resolve; "
                        f"expected {EXPECTED}.",
                    )
                )
            return faults
        if ABSOLUTE.fullmatch(value):
            named = LITERAL.fullmatch(value)
            # An address that does not end in a known type and an id tells nothing about its type.
            if named and self._is_resource_type(named.group(2)):
                return self._of_type(value, named.group(2), targets)
            return None
        if URN.fullmatch(value):
            return None
        return [Fault("HS-VAL-REFERENCE", "value", f"Found {shown(value)}; expected {EXPECTED}.")]

    def _of_type(self, value: str, name: str, targets: frozenset[str] | None) -> Found:
        if not self._is_resource_type(name):
            text = f"Found {shown(value)}, but {name} is no resource type of FHIR R4; expected {EXPECTED}."
            return [Fault("HS-VAL-REFERENCE", "value", text)]
        return None if targets is None or name in targets else [wrong_target(f"a reference to {name}", targets)]

    def whole(self, targets: frozenset[str] | None) -> Callable[[Json], Found]:
        """The check of a Reference's `type` against its `reference` and the allowed types."""

        def check(reference: Json) -> Found:
            given = reference.get("type")
            if type(given) is not str:
                return None
            name = given.removeprefix(TYPE_CANONICAL)
            if not self._is_resource_type(name):
                return None  # extensible binding: the type may be one of a logical model
            literal = reference.get("reference")
            match = LITERAL.fullmatch(literal) if type(literal) is str else None
            if match and self._is_resource_type(match.group(2)):
                if match.group(2) == name:
                    return None
                text = f"Found {name}, but the reference is {shown(literal)}; expected {match.group(2)}."
                return [Fault("HS-VAL-REFERENCE-TYPE", "value", text, path="type")]
            if targets is not None and name not in targets:
                fault = wrong_target(name, targets)
                fault.path = "type"
                return [fault]
            return None

        return check


def wrong_target(found: str, targets: frozenset[str]) -> Fault:
    """The fault of a reference to a type that the element does not allow.

    A warning: the reference itself is well-formed and true, and refusing the record would lose it. Official examples
    have such references, too. A profile may be stricter.
    """
    expected = f"expected one to {' | '.join(sorted(targets))}"
    return Fault("HS-VAL-TARGET", "value", f"Found {found}; {expected}.", severity="warning")
