"""Index entries of reference parameters: `Patient/1` for what is here, the whole address for what is elsewhere.

Spec: https://hl7.org/fhir/R4/search.html#reference
"""

from __future__ import annotations

from typing import Any

from fhir_server.search.entries import Further, Make
from fhir_server.search.entries.token import TokenEntries
from fhir_server.search.entries.uri import canonical, fragment


class ReferenceEntries:
    """The makers of reference entries, by FHIR type; `base_url` is the address under which this server is known."""

    def __init__(self, token: TokenEntries, base_url: str) -> None:
        self._token = token
        self._base = f"{base_url.rstrip('/')}/"

    def maker_of(self, type_name: str, targets: tuple[str, ...]) -> Make | None:
        """The maker for a type; `targets` are the types that the search parameter points to."""
        match type_name:
            case "Reference":
                return self._reference
            case "canonical":
                return canonical
            case "uri" | "url" | "oid" | "uuid":
                return self._uri
            case "Resource" | "DomainResource":
                return _inline(targets)
        return None

    def local(self, reference: str) -> str | None:
        """What is searched for: without our own base URL and without a version (`Patient/1`); None for a fragment."""
        if reference.startswith("#"):
            return None
        reference = reference.removeprefix(self._base)
        if "/_history/" in reference and "://" not in reference:
            return reference.partition("/_history/")[0]
        return reference

    def _reference(self, value: Any, main: list[Any], further: Further) -> None:
        literal = value.get("reference")
        if literal is not None:
            self._uri(literal, main, further)
        identifier = value.get("identifier")
        if identifier is not None:
            # Its type has no modifier of its own here, so only the main entries of the identifier are kept.
            self._token.identifier(identifier, further.setdefault(":identifier", []), {})

    def _uri(self, value: Any, main: list[Any], further: Further) -> None:
        if (entry := self.local(value)) is not None:
            main.append(entry)
        else:
            fragment(value, further)


def _inline(targets: tuple[str, ...]) -> Make:
    """A resource within the resource (the Composition of a document Bundle) stands for a reference to it."""

    def make(value: Any, main: list[Any], further: Further) -> None:
        type_name, logical_id = value.get("resourceType"), value.get("id")
        if logical_id is not None and (not targets or type_name in targets):
            main.append(f"{type_name}/{logical_id}")

    return make
