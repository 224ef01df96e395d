"""Index entries of string parameters: normalized for the default search, as written for `:exact`.

Spec: https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_server.search.entries import Further, Make
from fhir_server.search.normalize import normalized

_NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
_ADDRESS_PARTS = ("text", "line", "city", "district", "state", "postalCode", "country")

_normalized = lru_cache(maxsize=8192)(normalized)


def maker_of(type_name: str) -> Make | None:
    """The maker for a text type, `HumanName` or `Address`; None for anything else."""
    match type_name:
        case "string" | "markdown" | "code" | "id":
            return _text
        case "HumanName":
            return _parts(_NAME_PARTS)
        case "Address":
            return _parts(_ADDRESS_PARTS)
    return None


def _text(value: Any, main: list[Any], further: Further) -> None:
    entry = _normalized(value)
    if entry:
        main.append(entry)
        further.setdefault(":exact", []).append(value)


def _parts(names: tuple[str, ...]) -> Make:
    def make(value: Any, main: list[Any], further: Further) -> None:
        for name in names:
            part = value.get(name)
            if type(part) is str:
                _text(part, main, further)
            elif part is not None:
                for one in part:
                    if one is not None:
                        _text(one, main, further)

    return make
