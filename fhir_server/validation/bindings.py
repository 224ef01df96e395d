"""Checks of required bindings: the code is one of the value set's.

A value set that cannot be enumerated here (UCUM, LOINC answer lists) is not checked; media types, languages and
currencies are checked by their shape.

Spec: https://hl7.org/fhir/R4/terminologies.html#strength
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fhir_server.validation.fault import Check, Fault, Found, Json, shown
from fhir_server.validation.primitives import code
from profiles.registry import Element
from profiles.terminology import Terminology

VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
_TOKEN = r"[A-Za-z0-9!#$&^_.+\-]+"
# A value may have spaces within (as in examples of HL7), not around it: one way to match, so linear time.
_VALUE = r"[^;\s](?:[^;\t\r\n]*[^;\s])?"
SHAPES: dict[str, tuple[re.Pattern[str], str]] = {
    # CapabilityStatement.format has the short forms too: xml, json.
    f"{VALUE_SETS}mimetypes": (
        re.compile(rf"{_TOKEN}(?:/(?:{_TOKEN}|\*))?(?: ?; ?{_TOKEN}={_VALUE})*"),
        "a media type such as application/pdf",
    ),
    f"{VALUE_SETS}languages": (re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*"), "a language tag such as en-GB"),
    f"{VALUE_SETS}currencies": (re.compile(r"[A-Z]{3}"), "a currency of ISO 4217 such as EUR"),
}


class Bindings:
    """Makes the checks; asks the terminology for the codes of a value set."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology

    def of_code(self, element: Element) -> Check:
        """The check of a `code` element: of its binding if it has a required one, else of its shape."""
        value_set = element.binding
        if value_set in SHAPES:
            return _shaped(*SHAPES[value_set])
        if value_set is None or element.binding_strength != "required":
            return code
        pairs = self._terminology.expansion(value_set)
        return code if pairs is None else _one_of(frozenset(c for _, c in pairs), value_set)

    def of_coded(self, element: Element, type_code: str) -> Callable[[Json], Found] | None:
        """The check of a Coding, CodeableConcept or Quantity with a required binding; None: nothing to check."""
        value_set = element.binding
        if value_set is None or element.binding_strength != "required":
            return None
        pairs = self._terminology.expansion(value_set)
        if pairs is None:
            return None
        match type_code:
            case "Coding" | "Quantity":
                return _coding_in(pairs, value_set)
            case "CodeableConcept":
                return _concept_in(pairs, value_set)
        return None


def _shaped(pattern: re.Pattern[str], expected: str) -> Check:
    fullmatch = pattern.fullmatch

    def check(value: Any) -> Found:
        if type(value) is str and fullmatch(value) is not None:
            return None
        return code(value) or [Fault("HS-VAL-BINDING", "code-invalid", f"Found {shown(value)}; expected {expected}.")]

    return check


def _one_of(codes: frozenset[str], value_set: str) -> Check:
    def check(value: Any) -> Found:
        if type(value) is str and value in codes:
            return None
        return code(value) or [_not_bound(shown(value), codes, value_set)]

    return check


def _coding_in(pairs: frozenset[tuple[str, str]], value_set: str) -> Callable[[Json], Found]:
    def check(value: Json) -> Found:
        system, own = value.get("system"), value.get("code")
        if own is None or (type(system) is str and type(own) is str and (system, own) in pairs):
            return None
        return [_not_bound(_pair_text(system, own), _pair_texts(pairs), value_set)]

    return check


def _concept_in(pairs: frozenset[tuple[str, str]], value_set: str) -> Callable[[Json], Found]:
    def check(value: Json) -> Found:
        codings = value.get("coding")
        if type(codings) is not list:
            # With neither coding nor text the concept is absent for a reason that its extension tells.
            if codings is None and "text" not in value:
                return None
            return [_not_bound("no coding", _pair_texts(pairs), value_set)]
        found = []
        for coding in codings:
            if type(coding) is dict:
                system, own = coding.get("system"), coding.get("code")
                if type(system) is str and type(own) is str and (system, own) in pairs:
                    return None
                found.append(_pair_text(system, own))
        return [_not_bound(", ".join(found[:3]) or "no coding", _pair_texts(pairs), value_set)]

    return check


def _pair_text(system: Any, own: Any) -> str:
    return f"system {shown(system)} with code {shown(own)}"


def _pair_texts(pairs: frozenset[tuple[str, str]]) -> frozenset[str]:
    return frozenset(f"{system}|{own}" for system, own in pairs)


def _not_bound(found: str, codes: frozenset[str], value_set: str) -> Fault:
    listed = " | ".join(sorted(codes)[:12]) + (" | …" if len(codes) > 12 else "")
    text = f"Found {found}; expected a code of the value set {value_set}: {listed}."
    return Fault("HS-VAL-BINDING", "code-invalid", text)
