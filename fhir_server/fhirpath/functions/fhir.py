"""What FHIR adds to FHIRPath: extensions, references, terminology, profiles, narrative.

Spec: https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath import quantities
from fhir_server.fhirpath.equality import quantity_in
from fhir_server.fhirpath.evaluation import Context, Truth
from fhir_server.fhirpath.functions.references import target_of
from fhir_server.fhirpath.functions.table import Site, collections, condition
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, boolean, children, root_item
from fhir_server.fhirpath.narrative import is_narrative

_PROFILES = "http://hl7.org/fhir/StructureDefinition/"

Pair = tuple[str | None, str]


def _argument(argument: Items, name: str) -> str | None:
    """The one string of an argument; None where it is empty."""
    if not argument:
        return None
    if len(argument) > 1 or argument[0].kind.system != "String":
        raise Fault(f"{name}() takes one string")
    return str(argument[0].value)


def _extensions(items: Items, url: str | None) -> Items:
    return [e for item in items for e in children(item, "extension") if e.value.get("url") == url]


@collections("extension", 1)
def extension(context: Context, items: Items, url: Items) -> Items:
    return _extensions(items, _argument(url, "extension"))


@condition("hasExtension", 1)
def has_extension(site: Site) -> Truth:
    source, url = site.source, site.evaluate(site.nodes[0])
    return lambda focus, context: bool(
        _extensions(source(focus, context), _argument(url(focus, context), "hasExtension"))
    )


@collections("checkModifiers", 0, 20)
def check_modifiers(context: Context, items: Items, *known: Items) -> Items:
    """The items themselves; a modifier extension that is not among the URLs is a fault."""
    urls = {_argument(url, "checkModifiers") for url in known}
    for item in items:
        for modifier in children(item, "modifierExtension"):
            if modifier.value.get("url") not in urls:
                raise Fault(f"the modifier extension {modifier.value.get('url')} is not understood")
    return items


@collections("resolve")
def resolve(context: Context, items: Items) -> Items:
    """The resources that references, or strings with addresses, name; what cannot be found is left out."""
    found: Items = []
    for item in items:
        target = target_of(item, context)
        if target is not None:
            found.append(target if isinstance(target, Item) else root_item(target, context.kinds))
    return found


@collections("conformsTo", 1)
def conforms_to(context: Context, items: Items, profile: Items) -> Items:
    """Whether the item is of a base type, or what the caller's `conforms` says of any other profile."""
    url = _argument(profile, "conformsTo")
    if not items or url is None:
        return EMPTY
    if len(items) > 1:
        raise Fault(f"conformsTo() works on a single item, found {len(items)}")
    name = url.removeprefix(_PROFILES)
    if name != url and name in context.kinds.registry.types:
        return boolean(items[0].kind.is_a(name))
    verdict = context.conforms(items[0].value, url) if context.conforms else None
    if verdict is None:
        raise Fault(f"the profile {url[:200]} is not known")
    return boolean(verdict)


@condition("htmlChecks")
def html_checks(site: Site) -> Truth:
    """Whether the text of a narrative is XHTML as FHIR allows it."""
    source = site.source

    def evaluate(focus: Items, context: Context) -> bool:
        check = context.narrative or is_narrative
        return all(type(item.value) is str and check(item.value) for item in source(focus, context))

    return evaluate


def codings_of(item: Item) -> list[Pair]:
    """The `(system, code)` pairs of a code, Coding or CodeableConcept; a code alone has no system."""
    value: Any = item.value
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    rows = value.get("coding", []) if item.kind.name == "CodeableConcept" else [value]
    return [(row.get("system"), row["code"]) for row in rows if isinstance(row, dict) and "code" in row]


@collections("memberOf", 1)
def member_of(context: Context, items: Items, value_set: Items) -> Items:
    """Whether a code, or any coding, is in a value set; empty where the value set is not known."""
    url = _argument(value_set, "memberOf")
    if len(items) > 1:
        raise Fault(f"memberOf() works on a single item, found {len(items)}")
    if not items or url is None or context.terminology is None:
        return EMPTY
    verdicts = [context.terminology.member(url, system, code) for system, code in codings_of(items[0])]
    if True in verdicts:
        return boolean(True)
    if verdicts:
        return boolean(None if None in verdicts else False)
    # Nothing is in a value set that is known, whatever that holds.
    return boolean(None if context.terminology.member(url, None, "") is None else False)


def _subsumes(context: Context, above: Items, below: Items) -> Items:
    if len(above) > 1 or len(below) > 1:
        raise Fault("subsumes() and subsumedBy() work on single items")
    if not above or not below or context.terminology is None:
        return EMPTY
    unknown = False
    for system, code in codings_of(above[0]):
        for other_system, other in codings_of(below[0]):
            if system != other_system:
                continue
            if code == other:
                return boolean(True)
            found = None if system is None else context.terminology.descendants(system, code)
            if found is None:
                unknown = True
            elif other in found:
                return boolean(True)
    return boolean(None if unknown else False)


@collections("subsumes", 1)
def subsumes(context: Context, items: Items, other: Items) -> Items:
    return _subsumes(context, items, other)


@collections("subsumedBy", 1)
def subsumed_by(context: Context, items: Items, other: Items) -> Items:
    return _subsumes(context, other, items)


@collections("comparable", 1)
def comparable(context: Context, items: Items, other: Items) -> Items:
    """Whether two quantities are of the same dimension."""
    if len(items) > 1 or len(other) > 1:
        raise Fault("comparable() works on single quantities")
    if not items or not other:
        return EMPTY
    mine, another = quantity_in(items[0]), quantity_in(other[0])
    if mine is None or another is None:
        return EMPTY
    return boolean(quantities.aligned(mine, another, context.units) is not None)
