"""Bindings of a profile: whether codes are of the value set, as strictly as the binding says.

`required` refuses, `extensible` warns (a code of one's own is right where the value set has none that fits),
`preferred` tells. A value set whose codes are not all known here is told as not checked.

Spec: https://hl7.org/fhir/R4/terminologies.html#strength
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fhir_server.fhirpath.functions.fhir import codings_of
from fhir_server.fhirpath.items import Item
from fhir_server.model.errors import Severity
from fhir_server.validation.bindings import SHAPES, VALUE_SETS
from fhir_server.validation.profile.definition import Binding
from fhir_server.validation.profile.findings import Place, Question, path_of
from fhir_server.validation.profile.run import Check, Run
from profiles.registry import Element

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

_SEVERITIES: dict[str, Severity] = {"required": "error", "extensible": "warning", "preferred": "information"}
_HOW = {
    "required": "a code of the value set",
    "extensible": "a code of the value set, if it has one that fits",
    "preferred": "rather a code of the value set",
}

#: Checked by their shape with the structure.
_BY_SHAPE = frozenset({*SHAPES, f"{VALUE_SETS}all-languages"})

_CODED = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"})

#: So many codes are named in a message.
_MAX_NAMED = 12


def binding_check(binding: Binding, base: Element | None, place: Place, shelf: Shelf) -> Check | None:
    """The check of one binding; None where nothing is to be checked, or the structure validation does it."""
    value_set = binding.value_set.partition("|")[0]
    if binding.strength not in _SEVERITIES or value_set in _BY_SHAPE:
        return None
    if base is not None and base.binding_strength == binding.strength == "required" and base.binding == value_set:
        return None
    members = shelf.terminology.expansion(binding.value_set)
    if members is None:
        return _unsure(binding, place, shelf)
    codes = frozenset(code for _, code in members)
    listed = sorted(f"{system}|{code}" for system, code in members)
    shown = " | ".join(listed[:_MAX_NAMED]) + (" | …" if len(listed) > _MAX_NAMED else "")
    strength = binding.strength
    severity = _SEVERITIES[strength]
    expected = f"{_HOW[strength]} {binding.value_set}: {shown}"

    def check(item: Item, run: Run) -> None:
        if item.kind.name not in _CODED or item.value is None:
            return
        codings = codings_of(item)
        if any((s, c) in members if s is not None else c in codes and _is_bare(item) for s, c in codings):
            return
        if not codings and (strength != "required" or _says_nothing(item)):
            return  # text alone is right where no code of the value set fits
        found = ", ".join(f"{s}|{c}" if s is not None else c for s, c in codings[:3]) or "no code"
        text = f"Found {found}; expected {expected}"
        run.findings.tell("HS-PROFILE-BINDING", "code-invalid", path_of(item), text, place, severity=severity)

    return check


def _is_bare(item: Item) -> bool:
    """Whether it is a code by itself, whose system the element implies."""
    return isinstance(item.value, str)


def _says_nothing(item: Item) -> bool:
    """A Quantity without a code, or a concept that is absent for a reason that its extension tells."""
    return item.kind.is_a("Quantity") or ("text" not in item.value and "coding" not in item.value)


def _unsure(binding: Binding, place: Place, shelf: Shelf) -> Check:
    """The check by a value set of which not all is known: yes, no, or a question that stays open."""
    value_set, strength = binding.value_set, binding.strength
    severity, expected = _SEVERITIES[strength], f"{_HOW[strength]} {value_set}"
    member = shelf.terminology.member

    def check(item: Item, run: Run) -> None:
        if item.kind.name not in _CODED or item.value is None:
            return
        codings = codings_of(item)
        verdicts = [member(value_set, system, code) for system, code in codings]
        if not verdicts or True in verdicts:
            return
        question = Question(value_set, tuple(codings), path_of(item), place, severity, expected, strength)
        if None not in verdicts:
            run.findings.answer(question, is_member=False)
        elif strength != "preferred":
            run.findings.ask(question)

    return check
