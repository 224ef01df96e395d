"""The value set that an element is bound to, by which `context` names it.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html (context)
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import wrong
from fhir_server.model.errors import NotFoundError
from fhir_server.validation.profile.source import STRUCTURES

Json = dict[str, Any]

_TYPES = "http://hl7.org/fhir/StructureDefinition/"


async def bound_to(context: Context, text: str) -> str:
    """The canonical URL of the value set that an element is bound to.

    Args:
        text: `[canonical of a profile or type]#[path or id of an element]`, or a path alone (`Patient.gender`)

    Raises:
        InvalidError: 400; it names no element.
        NotFoundError: 404; the profile is not held, or the element has no binding.
    """
    canonical, sign, path = text.partition("#")
    if not sign:
        canonical, path = "", text
    name = (canonical.removeprefix(_TYPES) if canonical else path.partition(".")[0]).partition("|")[0]
    known = context.registry.types.get(name)
    if known is not None:
        found = next((row.binding for row in known.elements.values() if _is_meant(row.path, path)), None)
        if found is None:
            raise _unbound(text)
        return found
    if not canonical:
        raise wrong("context", text, "an element, as Patient.gender or [canonical of a profile]#Patient.gender,")
    definition = context.registry.profiles.get(canonical.partition("|")[0])
    if definition is None:
        definition = await context.terminology.holdings.definition(STRUCTURES, canonical)
    if definition is None:
        raise NotFoundError(f"The profile {canonical[:200]!r} is not held on this server.", key="HS-TERM-UNKNOWN")
    rows: list[Json] = (definition.get("snapshot") or definition.get("differential") or {}).get("element") or []
    for row in rows:
        binding = row.get("binding") or {}
        if "valueSet" in binding and (row.get("id") == path or _is_meant(str(row.get("path")), path)):
            return str(binding["valueSet"])
    raise _unbound(text)


def _is_meant(path: str, asked: str) -> bool:
    return asked in (path, path.removesuffix("[x]"))


def _unbound(text: str) -> NotFoundError:
    return NotFoundError(f"The element {text[:200]!r} is bound to no value set.", key="HS-TERM-CONTEXT")
