"""Extensions: they stand where their definition allows them, change meaning only where they say so, and conform to it.

Spec: https://hl7.org/fhir/R4/extensibility.html, https://hl7.org/fhir/R4/defining-extensions.html#context
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.fhirpath.engine import Compiler as PathCompiler
from fhir_server.fhirpath.items import Fault, Item
from fhir_server.fhirpath.parser import parsed
from fhir_server.fhirpath.walk import definitions_of
from fhir_server.model.errors import InvalidError
from fhir_server.validation.profile.findings import Findings, Place, path_of
from fhir_server.validation.profile.run import Run

Json = dict[str, Any]

_TYPES = "http://hl7.org/fhir/StructureDefinition/"


#: Contexts that R4 forgot, as its own definitions use these extensions, and later versions of FHIR have.
_FURTHER = {
    f"{_TYPES}structuredefinition-fhir-type": "ElementDefinition.type",
    f"{_TYPES}structuredefinition-normative-version": "ElementDefinition",
    f"{_TYPES}regex": "ElementDefinition.type",
}


def url_of_extension(item: Item) -> str | None:
    """The URL by which an extension is defined by itself; None within another one, whose definition has it."""
    url = item.value.get("url") if isinstance(item.value, dict) else None
    return url if isinstance(url, str) and ":" in url else None


class ExtensionRules:
    """Looks at the extensions of one resource; what is not held is told once of each URL."""

    def __init__(self, run: Run, root: Item) -> None:
        self._run = run
        self._root = root
        self._untold: set[str] = set()

    def look_at(self, item: Item) -> None:
        url = url_of_extension(item)
        if url is None:
            return
        is_modifier = item.key == "modifierExtension"
        known = [one for one in self._run.shelf.versions(url) if one[1].get("type") == "Extension"]
        if not known:
            self._unknown(item, url, is_modifier=is_modifier)
            return
        # Nothing in an extension says by which version of a guide it was made: it conforms to one of them.
        findings = None
        for canonical, definition in known:
            found = self._found(item, canonical, definition, is_modifier=is_modifier)
            if not found.has_errors():
                findings = found
                break
            findings = findings or found
        if findings is not None:
            self._run.findings.add(findings)

    def _found(self, item: Item, canonical: str, definition: Json, *, is_modifier: bool) -> Findings:
        """What one version of a definition says of an extension."""
        run = self._run.apart()
        place = Place(canonical, "Extension")
        self._modifying(item, definition, place, run.findings, is_modifier=is_modifier)
        self._context(item, definition, place, run.findings)
        run.validate(item, canonical, place)
        return run.findings

    def _unknown(self, item: Item, url: str, *, is_modifier: bool) -> None:
        if url in self._untold:
            return
        self._untold.add(url)
        if is_modifier:
            text = f"Found the modifier extension {url}, whose definition is not held; expected one that is understood"
            text += ", since it may change the meaning of what it stands in"
        else:
            text = f"Not checked: the definition of the extension {url} is not held on this server"
        self._run.findings.tell(
            "HS-CONTENT-EXTENSION-UNKNOWN",
            "extension" if is_modifier else "informational",
            path_of(item),
            text,
            None,
            severity="warning" if is_modifier else "information",
        )

    def _modifying(self, item: Item, definition: Json, place: Place, findings: Findings, *, is_modifier: bool) -> None:
        elements = (definition.get("snapshot") or definition.get("differential") or {}).get("element") or [{}]
        modifies = bool(elements[0].get("isModifier"))
        if modifies is is_modifier:
            return
        wanted = "a modifierExtension" if modifies else "an extension"
        text = f"Found it as {item.key}; expected {wanted}, as its definition says"
        findings.tell("HS-CONTENT-EXTENSION-MODIFIER", "extension", path_of(item), text, place)

    def _context(self, item: Item, definition: Json, place: Place, findings: Findings) -> None:
        contexts = list(definition.get("context") or [])
        if contexts and (further := _FURTHER.get(str(definition.get("url")))):
            contexts.append({"type": "element", "expression": further})
        parent = item.parent
        if parent is None:
            return
        if contexts and not any(self._is_within(parent, context) for context in contexts):
            allowed = " | ".join(str(context.get("expression")) for context in contexts[:8])
            text = f"Found it at {_named(parent)}; expected it at {allowed}"
            findings.tell("HS-CONTENT-EXTENSION-CONTEXT", "extension", path_of(item), text, place)
        for expression in definition.get("contextInvariant") or ():
            if self._truth(expression, parent) is False:
                text = f"Found it where {expression} is false; expected it to be true of what it stands in"
                findings.tell("HS-CONTENT-EXTENSION-CONTEXT", "extension", path_of(item), text, place)

    def _is_within(self, parent: Item, context: Json) -> bool:
        expression = str(context.get("expression"))
        match context.get("type"):
            case "element":
                return expression.removeprefix(_TYPES) in set(_names(parent)) or "#" in expression
            case "extension":
                return parent.kind.name == "Extension" and parent.value.get("url") == expression
            case "fhirpath":
                return self._leads_to(expression, parent)
        return True  # a kind of context that later versions of FHIR have

    def _leads_to(self, expression: str, parent: Item) -> bool:
        """Whether a FHIRPath, from the resource, leads to an element; one that cannot be evaluated tells nothing."""
        try:
            evaluate = PathCompiler(self._run.shelf.kinds).evaluate(parsed(expression))
            found = evaluate([self._root], self._run.context(self._root))
        except (Fault, InvalidError):
            return True
        return any(one.value is parent.value for one in found)

    def _truth(self, expression: str, item: Item) -> bool | None:
        try:
            return PathCompiler(self._run.shelf.kinds).truth(parsed(expression))([item], self._run.context(item))
        except (Fault, InvalidError):
            return None


def _names(item: Item) -> Iterator[str]:
    """What an element is called in contexts: its types, from the nearest to `Element`, and its paths."""
    for definition in definitions_of(item):
        yield definition.path
    kind = item.kind
    while True:
        yield kind.name
        base = kind.base()
        if base is None or base == f"FHIR.{kind.name}" or not base.startswith("FHIR."):
            break
        kind = kind.sibling(base.removeprefix("FHIR."))
    yield "Element"  # anything that can be extended


def _named(item: Item) -> str:
    return next((definition.path for definition in definitions_of(item)), item.kind.name)
