"""Bundles: entries are what their addresses say, each once; a document holds what its Composition refers to.

What R4 says in invariants (`bdl-1` to `bdl-12`) is looked at with the structure.

Spec: https://hl7.org/fhir/R4/bundle.html, https://hl7.org/fhir/R4/documents.html, https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fhir_server.fhirpath.items import Item
from fhir_server.model.errors import Severity
from fhir_server.validation.profile.findings import Findings, Place, path_of
from fhir_server.validation.profile.values import shown

Json = dict[str, Any]

_BUNDLE = Place("http://hl7.org/fhir/StructureDefinition/Bundle", "Bundle.entry")
_RESTFUL = re.compile(r"https?://[^\s?#]+/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_ADDRESS = re.compile(r"([A-Z][A-Za-z]+)(?:/([A-Za-z0-9\-.]{1,64}))?(?:\?.*)?")
_CHANGES = frozenset({"PUT", "PATCH", "DELETE"})


class BundleRules:
    """Looks at one Bundle."""

    def __init__(self, item: Item, findings: Findings) -> None:
        self._path = path_of(item)
        self._bundle: Json = item.value
        self._findings = findings
        self._entries: list[Json] = [one for one in item.value.get("entry") or () if isinstance(one, dict)]

    def look(self) -> None:
        kind = self._bundle.get("type")
        for at, entry in enumerate(self._entries):
            self._address(at, entry)
            if kind in ("transaction", "batch"):
                self._request(at, entry)
        if kind == "transaction":
            self._doubles()
        if kind == "document":
            self._document()

    def _tell(self, at: int, member: str, text: str, code: str = "value", severity: Severity = "error") -> None:
        path = f"{self._path}.entry[{at}]{'.' if member else ''}{member}"
        self._findings.tell("HS-CONTENT-BUNDLE", code, path, text, _BUNDLE, severity=severity)

    def _address(self, at: int, entry: Json) -> None:
        """`fullUrl` is the identity of the resource: its last words are the type and id, where it is RESTful."""
        url, resource = entry.get("fullUrl"), entry.get("resource")
        found = _RESTFUL.fullmatch(url) if isinstance(url, str) else None
        if found is None or not isinstance(resource, dict):
            return
        name, own = resource.get("resourceType"), resource.get("id")
        if own is not None and (found[1], found[2]) != (name, own):
            text = f"Found the fullUrl {shown(url)} of {name}/{own}; expected one that ends in {name}/{own}"
            self._tell(at, "fullUrl", text)

    def _request(self, at: int, entry: Json) -> None:
        """The address of a request is of the type and id of the resource that goes there."""
        request, resource = entry.get("request"), entry.get("resource")
        if not isinstance(request, dict) or not isinstance(resource, dict):
            return
        method, url = request.get("method"), request.get("url")
        found = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
        name, own = resource.get("resourceType"), resource.get("id")
        if found is None or method not in ("POST", "PUT"):
            return
        if found[1] != name:
            self._tell(at, "request.url", f"Found {method} {shown(url)} of a {name}; expected an address of {name}")
        elif method == "PUT" and found[2] is not None and own is not None and found[2] != own:
            self._tell(at, "request.url", f"Found {method} {shown(url)} of {name}/{own}; expected {name}/{own}")

    def _doubles(self) -> None:
        """In a transaction no resource is changed twice."""
        seen: dict[str, int] = {}
        for at, entry in enumerate(self._entries):
            request = entry.get("request")
            if not isinstance(request, dict) or request.get("method") not in _CHANGES:
                continue
            url = request.get("url")
            found = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
            if found is None or found[2] is None:
                continue
            if (before := seen.setdefault(f"{found[1]}/{found[2]}", at)) != at:
                text = f"Found another change of {shown(url)}; expected one alone, which is entry[{before}]"
                self._tell(at, "request.url", text, "duplicate")

    def _document(self) -> None:
        """Everything in a document is reached from its Composition, and what that refers to is in it."""
        addresses = {key: at for at, entry in enumerate(self._entries) for key in _names_of(entry)}
        reached, waiting = {0}, [0]
        while waiting:
            at = waiting.pop()
            resource = self._entries[at].get("resource") if at < len(self._entries) else None
            for reference in _references(resource):
                target = addresses.get(_absolute(reference, self._entries[at]), addresses.get(reference))
                if target is not None and target not in reached:
                    reached.add(target)
                    waiting.append(target)
                elif target is None and at == 0 and not reference.startswith("#"):
                    text = f"Found no entry for {shown(reference)}; expected all that the Composition refers to"
                    self._tell(0, "resource", text, "not-found", "warning")
        for at in range(len(self._entries)):
            if at not in reached:
                text = "Found an entry that nothing leads to; expected those that are reached from the Composition"
                self._tell(at, "", text, "business-rule", "warning")


def _names_of(entry: Json) -> Iterator[str]:
    url, resource = entry.get("fullUrl"), entry.get("resource")
    if isinstance(url, str):
        yield url
    if isinstance(resource, dict) and "id" in resource and not (isinstance(url, str) and url.startswith("http")):
        yield f"{resource.get('resourceType')}/{resource['id']}"


def _absolute(reference: str, entry: Json) -> str:
    """A relative reference is below the base of the entry that it stands in."""
    url = entry.get("fullUrl")
    found = _RESTFUL.fullmatch(url) if isinstance(url, str) else None
    return reference if found is None or ":" in reference else f"{found.string[: found.start(1)]}{reference}"


def _references(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("reference")
            if isinstance(reference, str):
                yield reference
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
