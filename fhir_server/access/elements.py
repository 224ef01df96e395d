"""Which elements a writer leaves as they are, and in which they name nobody but themselves.

Asked behind the guard, of the same two versions: what stands there now, and what would stand there then. So it holds
for every form of writing alike, and tells nothing about what its writer may not see.

Spec: https://hl7.org/fhir/R4/security.html#http, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.access.attachments import target_of
from fhir_server.model import codec
from fhir_server.model.access import AccessPolicy
from fhir_server.model.errors import ForbiddenError
from fhir_server.storage.document import Version

Json = dict[str, Any]

CHOICE = "[x]"


def require_elements(policy: AccessPolicy, new: Version, previous: Version | None, base_url: str) -> None:
    """A write changes no element that its writer must keep, and signs for nobody else.

    Raises:
        ForbiddenError: 403; the issue names the element.
    """
    kept = [rule.path for rule in policy.keeps if rule.type == new.type]
    signed = [rule for rule in policy.signs if rule.type == new.type]
    if not (kept or signed) or new.body is None:
        return
    then: Json = codec.decode(new.body)
    now: Json = codec.decode(previous.body) if previous is not None and previous.body is not None else {}
    for path in kept:
        if value_at(then, path) != value_at(now, path):
            raise ForbiddenError(
                f"{new.type}.{spoken(path)} is not yours to change: send it as it stands"
                + (". Others see to it." if now else ", which is: without it."),
                key="HS-ACCESS-ELEMENT",
                expression=f"{new.type}.{spoken(path)}",
            )
    for rule in signed:
        for version in (now, then):
            if version and not all(signer in rule.by for signer in signers_of(version, rule.path, base_url)):
                raise ForbiddenError(
                    f"{new.type}.{rule.path} may name nobody but you in what you write, before and after the change.",
                    key="HS-ACCESS-ELEMENT",
                    expression=f"{new.type}.{rule.path}",
                )


def spoken(path: str) -> str:
    """An element's path as FHIRPath has it, where a choice of types has no ending.

    >>> spoken("deceased[x]")
    'deceased'
    """
    return path.removesuffix(CHOICE)


def value_at(resource: Json, path: str) -> list[Any]:
    """All that stands at a path: the values, and what is beside them in JSON (`_birthDate`); empty for nothing.

    >>> value_at({"active": True, "_active": {"id": "a"}}, "active")
    [('_active', {'id': 'a'}), ('active', True)]
    >>> value_at({"deceasedBoolean": True}, "deceased[x]")
    [('deceasedBoolean', True)]
    >>> value_at({"meta": {"security": []}}, "meta.security")
    [('security', [])]
    """
    head, _, rest = path.partition(".")
    found = [(name, resource[name]) for name in sorted(resource) if _is_called(name.removeprefix("_"), head)]
    if not rest:
        return found
    return [inner for _, value in found for row in _rows(value) for inner in value_at(row, rest)]


def _is_called(name: str, element: str) -> bool:
    if not element.endswith(CHOICE):
        return name == element
    stem = spoken(element)
    return name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper()


def _rows(value: Any) -> Iterator[Json]:
    for row in value if isinstance(value, list) else [value]:
        if isinstance(row, dict):
            yield row


def signers_of(resource: Json, path: str, base_url: str) -> Iterator[str | None]:
    """Whom the references of an element name; None for one who is named by anything else than a reference of ours."""
    for _, value in value_at(resource, path):
        for row in _rows(value):
            target = target_of(row.get("reference"), base_url)
            yield f"{target[0]}/{target[1]}" if target is not None else None
