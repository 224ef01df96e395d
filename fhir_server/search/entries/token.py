"""Index entries of token parameters: a code under any system, and under its own.

A coding leaves `=code` (folded) and `system|code`, in which the code is folded too unless its system is known to be
case sensitive. A `code` has no system of its own: where its binding gives it one, it is found with it and without.

Spec: https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

from fhir_server.search.entries import Further, Make
from fhir_server.search.normalize import fold, normalized
from profiles.registry import Element
from profiles.terminology import Terminology

#: What is no pair of system and code; their highest entry (`|code`) is of the highest code.
_PLAIN = frozenset(("string", "id", "uri", "url", "canonical", "oid", "uuid", "markdown"))
SYSTEMLESS = _PLAIN | {"code", "boolean", "ContactPoint"}

_normalized = lru_cache(maxsize=8192)(normalized)


class TokenEntries:
    """The makers of token entries, by FHIR type."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._folds = lru_cache(maxsize=4096)(self._is_folded)
        #: Codes come again and again, identifiers do not: only the entries of codes are kept.
        self._pair = lru_cache(maxsize=32768)(self.pair_of)
        self._systems = lru_cache(maxsize=None)(self._systems_of)

    def maker_of(self, type_name: str, element: Element | None) -> Make | None:
        """The maker for a type; `element` is the definition of a `code`, which tells its value set."""
        match type_name:
            case "CodeableConcept":
                return self._concept
            case "Coding":
                return self._coding
            case "Identifier":
                return self.identifier
            case "code":
                return self._code(element.binding if element else None)
            case "boolean":
                return _boolean
            case "ContactPoint":
                return _contact_point
        return _plain if type_name in _PLAIN else None

    def pair_of(self, system: str | None, code: str) -> tuple[str, str]:
        """The two entries of a code: under any system, and under its own."""
        folded = fold(code)
        if not system:
            return f"={folded}", f"|{folded}"
        return f"={folded}", f"{system}|{folded if self._folds(system) else code}"

    def _is_folded(self, system: str) -> bool:
        return not self._terminology.is_case_sensitive(system)

    def _coding(self, value: Any, main: list[Any], further: Further) -> None:
        code = value.get("code")
        if code is not None:
            main += self._pair(value.get("system"), code)
        elif (system := value.get("system")) is not None:
            main.append(f"{system}|")
        display = value.get("display")
        if display is not None:
            further.setdefault(":text", []).append(_normalized(display))

    def _concept(self, value: Any, main: list[Any], further: Further) -> None:
        for coding in value.get("coding", ()):
            self._coding(coding, main, further)
        text = value.get("text")
        if text is not None:
            further.setdefault(":text", []).append(_normalized(text))

    def identifier(self, value: Any, main: list[Any], further: Further) -> None:
        """An Identifier: by value, by system and value, and by the codes of its type with the value (`:of-type`)."""
        number, system, kind = value.get("value"), value.get("system"), value.get("type")
        if number is not None:
            main += self.pair_of(system, number)
        elif system is not None:
            main.append(f"{system}|")
        if kind is None:
            return
        if (text := kind.get("text")) is not None:
            further.setdefault(":text", []).append(_normalized(text))
        if number is None:
            return
        for coding in kind.get("coding", ()):
            if (code := coding.get("code")) is not None:
                entry = f"{coding.get('system', '')}|{code}|{fold(number)}"
                further.setdefault(":of-type", []).append(entry)

    def _code(self, value_set: str | None) -> Make:
        """A code leaves a third entry where its value set tells its system: `gender=http://…|male` finds it as well."""
        if value_set is None:
            return _plain

        @lru_cache(maxsize=4096)
        def entries_of(code: str) -> tuple[str, ...]:
            pairs = [self.pair_of(system, code)[1] for system in self._systems(value_set).get(code, ())]
            return (*self.pair_of(None, code), *pairs)

        def make(value: Any, main: list[Any], further: Further) -> None:
            main += entries_of(value)

        return make

    def _systems_of(self, value_set: str) -> dict[str, list[str]]:
        systems: dict[str, list[str]] = defaultdict(list)
        for system, code in self._terminology.expansion(value_set) or ():
            systems[code].append(system)
        return systems


def _plain(value: Any, main: list[Any], further: Further) -> None:
    folded = fold(value)
    main.append(f"={folded}")
    main.append(f"|{folded}")


def _boolean(value: Any, main: list[Any], further: Further) -> None:
    main += ("=true", "|true") if value is True else ("=false", "|false")


def _contact_point(value: Any, main: list[Any], further: Further) -> None:
    number = value.get("value")
    if number is not None:
        _plain(number, main, further)
