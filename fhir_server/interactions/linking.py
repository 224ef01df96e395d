"""Links between the entries of a transaction, rewritten to where their targets end up.

The server gives new ids to what is created, so every element that names an entry by its `fullUrl` must follow:
references, elements of the types uri, url, canonical, oid and uuid, and `href` and `src` in narratives.

Spec: https://hl7.org/fhir/R4/http.html#trules, https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from profiles.registry import registry

#: A conditional reference anywhere in the bytes of a Bundle; escapes are decoded afterwards.
CONDITIONAL = re.compile(rb'"reference"\s*:\s*("[A-Z][A-Za-z]+\?(?:[^"\\]|\\.)*")')

LINK_TYPES = frozenset({"uri", "url", "canonical", "oid", "uuid"})
NARRATIVE_LINK = re.compile(r"""(\b(?:href|src)\s*=\s*)(["'])([^"']*)\2""")


@cache
def link_members() -> frozenset[str]:
    """The JSON members that can hold a link to an entry: those of type uri and its kin, and `reference`.

    Some of the names stand for a string or code elsewhere. What equals an entry's `fullUrl` to the letter is a link
    there as well; only identifiers, whose `value` may be the same UUID and must not change, are of type string
    throughout.
    """
    names = {"reference"}
    for definition in registry().types.values():
        if definition.kind == "primitive-type":
            continue
        for element in definition.elements.values():
            for kind in element.types:
                if kind.code in LINK_TYPES:
                    names.add(element.name.replace("[x]", kind.code[:1].upper() + kind.code[1:]))
    return frozenset(names)


def conditional_references(body: bytes) -> set[str]:
    """Every conditional reference in a Bundle (`Practitioner?identifier=http://x|1`)."""
    return {msgspec.json.decode(found) for found in CONDITIONAL.findall(body)}


class Links:
    """Where each name that an entry has inside the Bundle leads after the transaction."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        self._dangling = False

    def add(self, name: str, target: str) -> None:
        self._targets[name] = target

    def target(self, text: str) -> str | None:
        found = self._targets.get(text)
        if found is None and "#" in text:
            base, _, fragment = text.partition("#")
            found = self._targets.get(base)
            return found and f"{found}#{fragment}"
        return found

    def rewrite(self, resource: dict[str, Any]) -> bool:
        """Replace, in place, every link of a resource that names an entry; tells whether a `urn:uuid:` names none."""
        self._dangling = False
        self._rewrite_object(resource, link_members())
        return self._dangling

    def _rewrite_object(self, node: dict[str, Any], members: frozenset[str]) -> None:
        for name, value in node.items():
            kind = type(value)
            if kind is str:
                if name in members:
                    if target := self.target(value):
                        node[name] = target
                    elif name == "reference" and value.startswith("urn:uuid:"):
                        self._dangling = True
                elif name == "div" and ("href" in value or "src" in value):
                    node[name] = NARRATIVE_LINK.sub(self._narrative_link, value)
            elif kind is dict:
                self._rewrite_object(value, members)
            elif kind is list:
                self._rewrite_list(value, members, name in members)

    def _rewrite_list(self, node: list[Any], members: frozenset[str], links: bool) -> None:
        for index, value in enumerate(node):
            kind = type(value)
            if kind is dict:
                self._rewrite_object(value, members)
            elif kind is str and links and (target := self.target(value)):
                node[index] = target
            elif kind is list:
                self._rewrite_list(value, members, links)

    def _narrative_link(self, match: re.Match[str]) -> str:
        target = self.target(match.group(3))
        return f"{match.group(1)}{match.group(2)}{target}{match.group(2)}" if target else match.group(0)
