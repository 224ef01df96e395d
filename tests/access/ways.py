"""Every way to reach a resource of some type, made from what the server says of itself.

The CapabilityStatement names types, interactions, search parameters, includes and operations; the OperationDefinitions
say where each operation is called. What is named there and has no row here raises `LookupError`: a new route cannot be
forgotten.

In addresses and bodies stand `{who}` for the id of a person, `{id}` for that of a resource, `{mark}` for a tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from profiles.operations import OWN, operations
from tests.access.operations import ASKED, LABELLING, derived

Json = dict[str, Any]
Headers = tuple[tuple[str, str], ...]

FORM: Headers = (("Content-Type", "application/x-www-form-urlencoded"),)
JSON_PATCH: Headers = (("Content-Type", "application/json-patch+json"),)
JSON: Headers = (("Content-Type", "application/json"),)

PATCH = '[{"op":"add","path":"/language","value":"de"}]'
FHIRPATH_PATCH = json.dumps(
    {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "add"},
                    {"name": "path", "valueString": "TYPE"},
                    {"name": "name", "valueString": "language"},
                    {"name": "value", "valueCode": "de"},
                ],
            }
        ],
    }
)


@dataclass(frozen=True, slots=True)
class Way:
    """One request.

    Attributes:
        kind: which row it comes from
        changes: whether it would change something
        pages: whether the pages that follow are looked at, too
    """

    method: str
    url: str
    body: str = ""
    headers: Headers = ()
    kind: str = "search"
    changes: bool = False
    pages: bool = False

    @property
    def names_something(self) -> bool:
        """Whether it asks for something in particular, rather than for all that there is."""
        return any(
            f"{{{name}}}" in part for name in ("id", "who", "mark") for part in (self.url, self.body, *self._values)
        )

    @property
    def _values(self) -> list[str]:
        return [value for _, value in self.headers]


def bundle(kind: str, *entries: Json) -> str:
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)})


@dataclass(frozen=True)
class Ways:
    """The ways of one server.

    Attributes:
        rest: `CapabilityStatement.rest` of the server
        base_url: its base
    """

    rest: Json
    base_url: str

    @cached_property
    def rows(self) -> dict[str, Json]:
        return {row["type"]: row for row in self.rest["resource"]}

    @cached_property
    def named_queries(self) -> frozenset[str]:
        """The operations of the statement that are searches with a name."""
        ours = (o for row in self.rest["resource"] for o in row["operation"])
        return frozenset(o["definition"] for o in ours if o.get("documentation", "").startswith("A named query"))

    def of_server(self) -> Iterator[Way]:
        """What is asked of the server as a whole."""
        for interaction in self.rest["interaction"]:
            match interaction["code"]:
                case "batch" | "transaction":
                    pass  # with each type, below
                case "history-system":
                    yield Way("GET", "_history?_count=50", kind="history", pages=True)
                case "search-system":
                    yield Way("GET", "?_tag={mark}&_total=accurate")
                    yield Way("GET", "?_type=Patient,Observation,Task&_count=9&_total=accurate", pages=True)
                    yield Way("POST", "_search", "_type=Patient,Encounter&_id={who},{id}", FORM)
                    yield Way("POST", "Patient/{who}/_search", "_type=Observation,Encounter", FORM, kind="compartment")
                case other:
                    raise LookupError(f"the interaction {other} of the system has no ways")
        yield from AROUND
        for parameter in self.rest["searchParam"]:
            yield Way("GET", f"?_type=Patient,Observation&{PROBES_OF_ALL[parameter['name']]}")
        for operation in self.rest["operation"]:
            yield from self._operation("", operation, {})

    def of_type(self, name: str, content: Mapping[str, str]) -> Iterator[Way]:
        """All that the statement says of a type.

        Args:
            content: a valid resource of each type as JSON, with `{who}` and `{id}` in it
        """
        row = self.rows[name]
        for interaction in row["interaction"]:
            yield from self._interaction(interaction["code"], name, content[name])
        yield from self._conditional(name, content[name])
        yield from self._in_bundles(name, content[name])
        for parameter in row["searchParam"]:
            yield from self._parameter(name, parameter)
        for sorting in {parameter["type"]: parameter["name"] for parameter in row["searchParam"]}.values():
            yield Way("GET", f"{name}?_sort={sorting},_id&_count=50", kind="sort")
        for several in batched(row["searchInclude"], INCLUDES):
            includes = "&".join(f"_include={include}" for include in several)
            yield Way("GET", f"{name}?_id={{id}}&{includes}", kind="include")
            yield Way("GET", f"{name}?_count=50&{includes.replace('_include', '_include:iterate')}", kind="include")
        for several in batched(row["searchRevInclude"], INCLUDES):
            includes = "&".join(f"_revinclude={include}" for include in several)
            yield Way("GET", f"{name}?_id={{id}}&{includes}", kind="revinclude")
        for operation in row["operation"]:
            yield from self._operation(name, operation, content)
        yield Way("GET", f"Patient/{{who}}/{name}?_count=100", kind="compartment")
        yield Way("POST", f"Patient/{{who}}/{name}/_search", "_summary=count", FORM, kind="compartment")
        yield Way("GET", f"Patient/{{who}}/*?_type={name}&_count=3", kind="compartment", pages=True)

    # --- interactions -----------------------------------------------------------------------------------------------

    def _interaction(self, code: str, name: str, content: str) -> Iterator[Way]:
        here = f"{name}/{{id}}"
        match code:
            case "read":
                for query in ("", "?_summary=true", "?_elements=id", "?_format=xml"):
                    yield Way("GET", here + query, kind=code)
                yield Way("HEAD", here, kind=code)
                yield Way("GET", here, headers=(("If-None-Match", 'W/"1"'),), kind=code)
                yield Way("GET", here, headers=(("If-Modified-Since", "Sat, 01 Jan 2050 00:00:00 GMT"),), kind=code)
                if name == "Binary":
                    for accept in ("application/fhir+json", "text/plain", "image/*"):
                        yield Way("GET", here, headers=(("Accept", accept),), kind=code)
                    yield Way("GET", here, headers=(("Range", "bytes=0-1"),), kind=code)
            case "vread":
                yield from (Way("GET", f"{here}/_history/{version}", kind=code) for version in (1, 2, 3))
            case "history-instance":
                yield Way("GET", f"{here}/_history", kind=code)
                yield Way("GET", f"{here}/_history?_since=2000-01-01T00:00:00Z&_count=1", kind=code)
            case "history-type":
                yield Way("GET", f"{name}/_history?_count=20", kind=code, pages=True)
            case "search-type":
                yield from self._searches(name)
            case "update":
                yield Way("PUT", here, content, kind=code, changes=True)
                yield Way("PUT", here, content, (("If-Match", 'W/"1"'),), kind=code, changes=True)
                yield Way("PUT", here, content, (("If-None-Match", "*"),), kind=code, changes=True)
                yield Way("PUT", here, json.dumps({"resourceType": name, "id": "{id}"}), kind=code, changes=True)
                if name == "Binary":
                    text = (("Content-Type", "text/plain"), ("X-Security-Context", "Patient/{who}"))
                    yield Way("PUT", here, "words", text, kind=code, changes=True)
            case "patch":
                yield Way("PATCH", here, PATCH, JSON_PATCH, kind=code, changes=True)
                yield Way("PATCH", here, PATCH, (*JSON_PATCH, ("If-Match", 'W/"1"')), kind=code, changes=True)
                yield Way("PATCH", here, FHIRPATH_PATCH.replace("TYPE", name), kind=code, changes=True)
            case "delete":
                yield Way("DELETE", here, kind=code, changes=True)
                yield Way("DELETE", here, headers=(("If-Match", 'W/"1"'),), kind=code, changes=True)
                yield Way("DELETE", f"{here}?_cascade=delete", kind=code, changes=True)
            case "create":
                fresh = without_id(content)
                yield Way("POST", name, fresh, kind=code, changes=True)
                told = json.dumps(
                    {
                        "resourceType": "Provenance",
                        "target": [{"reference": f"{name}/{{id}}"}],
                        "recorded": "2026-01-01T00:00:00Z",
                        "agent": [{"who": {"display": "app"}}],
                    }
                )
                yield Way("POST", "Provenance", told, kind=code, changes=True)
                yield Way("POST", "Basic", pointing(name), kind=code, changes=True)
            case _:
                raise LookupError(f"the interaction {code} of types has no ways")

    def _searches(self, name: str) -> Iterator[Way]:
        for query in (
            "_id={id}",
            "_tag={mark}",
            "_id={id}&_summary=count",
            "_tag={mark}&_summary=count&_total=accurate",
            "_filter=_id eq {id}",
            "_id={id}&_elements=id",
            "_content={mark}",
            "_text={mark}",
            "_list={who}-list",
            "_id={id}&_include=*&_include:iterate=*",
            "_id={id}&_revinclude=*&_revinclude:iterate=*",
        ):
            yield Way("GET", f"{name}?{query}")
        yield Way("POST", f"{name}/_search", "_id={id}&_total=accurate", FORM)
        yield Way("GET", f"{name}?_id={{id}}", headers=(("Prefer", "handling=strict"),))
        yield Way("GET", f"{name}?_id={{id}}", headers=(("Prefer", "explain"),))
        for query in ("_summary=count", "_tag:not=nothing&_total=estimate&_count=50", "_sort=-_lastUpdated&_count=50"):
            yield Way("GET", f"{name}?{query}")
        yield Way("GET", f"{name}?_count=4&_sort=_id&_total=accurate&_include=*&_revinclude=*", pages=True)
        yield Way("GET", f"{name}?_has:Provenance:target:_id:not=nothing&_count=50", kind="has")

    def _parameter(self, name: str, parameter: Json) -> Iterator[Way]:
        """What a search parameter has to say of one resource, and of whom it refers to."""
        code, kind = parameter["name"], parameter["type"]
        if code in PROBES_OF_ALL:
            yield Way("GET", f"{name}?{PROBES_OF_ALL[code]}", kind="parameter")
            return
        if kind not in KINDS:
            raise LookupError(f"search parameters of the kind {kind} have no ways")
        yield Way("GET", f"{name}?{code}:missing=false&_id={{id}}&_total=accurate", kind="missing")
        if kind == "reference":
            yield Way("GET", f"{name}?{code}=Patient/{{who}}", kind="parameter")
            yield Way("GET", f"{name}?{code}:Patient.family={{mark}}", kind="chain")
            yield Way("GET", f"{name}?{code}:Patient._tag:not=nothing&_id={{id}}", kind="chain")
            yield Way("GET", f"{name}?{code}:Patient._has:{name}:{code}:_tag={{mark}}&_count=50", kind="has")
            yield Way("GET", f"Patient?_has:{name}:{code}:_id={{id}}", kind="has")
        elif kind in ("token", "string", "uri"):
            yield Way("GET", f"{name}?{code}={{mark}}", kind="parameter")

    # --- conditions, Bundles ----------------------------------------------------------------------------------------

    def _conditional(self, name: str, content: str) -> Iterator[Way]:
        fresh = without_id(content)
        for criteria in ("_tag={mark}", "_id={id}"):
            yield Way("PUT", f"{name}?{criteria}", fresh, kind="conditional", changes=True)
            yield Way("PATCH", f"{name}?{criteria}", PATCH, JSON_PATCH, kind="conditional", changes=True)
            yield Way("DELETE", f"{name}?{criteria}", kind="conditional", changes=True)
            yield Way("POST", name, fresh, (("If-None-Exist", criteria),), kind="conditional", changes=True)
        yield Way("PUT", f"{name}?_tag={{mark}}", content, kind="conditional", changes=True)

    def _in_bundles(self, name: str, content: str) -> Iterator[Way]:
        whole, here = json.loads(content), f"{name}/{{id}}"
        fresh = json.loads(without_id(content))
        patch = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": PATCH_BASE64}
        entries: list[tuple[Json, bool]] = [
            ({"request": {"method": "GET", "url": here}}, False),
            ({"request": {"method": "GET", "url": here, "ifNoneMatch": 'W/"1"'}}, False),
            ({"request": {"method": "HEAD", "url": here}}, False),
            ({"request": {"method": "GET", "url": f"{here}/_history"}}, False),
            ({"request": {"method": "GET", "url": f"{name}?_id={{id}}&_summary=count"}}, False),
            ({"request": {"method": "GET", "url": f"Patient/{{who}}/{name}"}}, False),
            ({"request": {"method": "DELETE", "url": here}}, True),
            ({"request": {"method": "PATCH", "url": here}, "resource": patch}, True),
            ({"request": {"method": "PUT", "url": here}, "resource": whole}, True),
            ({"request": {"method": "DELETE", "url": f"{name}?_tag={{mark}}"}}, True),
            ({"request": {"method": "PUT", "url": f"{name}?_tag={{mark}}"}, "resource": fresh}, True),
            ({"request": {"method": "POST", "url": name, "ifNoneExist": "_tag={mark}"}, "resource": fresh}, True),
        ]
        for number, (entry, changes) in enumerate(entries):
            for kind in ("batch", "transaction") if changes or number < 2 else ("batch",):
                yield Way("POST", "", bundle(kind, entry), kind=kind, changes=changes)
        linked = {"resource": json.loads(pointing(name, "?_tag={mark}")), "request": {"method": "POST", "url": "Basic"}}
        yield Way("POST", "", bundle("transaction", linked), kind="conditional reference", changes=True)

    # --- operations -------------------------------------------------------------------------------------------------

    def _operation(self, name: str, row: Json, content: Mapping[str, str]) -> Iterator[Way]:
        if row["definition"] in self.named_queries:
            yield Way("GET", f"{name}?_query={row['name']}&_count=50", kind="named query")
            yield Way("GET", f"{name}?_query={row['name']}&_id={{id}}", kind="named query")
            return
        code = row["name"]
        known = operations()[row["definition"].replace(f"{self.base_url}/OperationDefinition/", OWN)]
        questions = ASKED.get(f"{code} of one") or ASKED.get(code) or derived(known.parameter)
        of_all = ASKED.get(code) or questions
        changes = known.affects_state or code in LABELLING
        levels = [""] if not name else [f"{name}/"] * known.type + [f"{name}/{{id}}/"] * known.instance
        for level in levels:
            for query, given in questions if "{id}" in level else of_all:
                body = given.replace('"CONTENT"', content.get(name, "null")).replace("{type}", name or "Basic")
                if body:
                    how = JSON if code == "graphql" else ()
                    yield Way("POST", f"{level}${code}", body, how, kind=f"${code}", changes=changes)
                elif not changes:
                    yield Way("GET", f"{level}${code}{query and f'?{query}'}", kind=f"${code}")


def batched(names: Sequence[str], number: int) -> Iterator[Sequence[str]]:
    yield from (names[start : start + number] for start in range(0, len(names), number))


def without_id(content: str) -> str:
    return json.dumps({name: value for name, value in json.loads(content).items() if name != "id"})


def pointing(name: str, criteria: str = "/{id}") -> str:
    """A resource of nobody that refers to the one in question, literally, and by an attachment."""
    reference = {"url": "urn:test:about", "valueReference": {"reference": f"{name}{criteria}"}}
    attached = {"url": "urn:test:with", "valueAttachment": {"url": "Binary/{id}", "contentType": "text/plain"}}
    extension = [reference, attached] if name == "Binary" and criteria == "/{id}" else [reference]
    return json.dumps({"resourceType": "Basic", "extension": extension, "code": {"text": "x"}})


PATCH_BASE64 = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2xhbmd1YWdlIiwidmFsdWUiOiJkZSJ9XQ=="

#: From what is seen into what is not: a pulse that was taken in an encounter.
AROUND = (
    Way("GET", "Observation?_id={who}-pulse&_include=Observation:encounter", kind="include"),
    Way("GET", "Observation?_id={who}-pulse&_include=*&_include:iterate=*", kind="include"),
    Way("GET", "Observation?encounter:Encounter._tag={mark}", kind="chain"),
    Way("GET", "Observation?encounter:Encounter._id:not=nothing&_id={who}-pulse", kind="chain"),
    Way("GET", "Encounter?_has:Observation:encounter:_id={who}-pulse", kind="has"),
    Way("GET", "Observation?encounter=Encounter/{who}-encounter&_summary=count", kind="parameter"),
    Way("GET", "Observation/{who}-pulse?_pretty=true", kind="read"),
    Way(
        "POST",
        "$graphql",
        json.dumps({"query": '{ Observation(id: "{who}-pulse") { id encounter { resource { id status } } } }'}),
        JSON,
        kind="$graphql",
    ),
)

#: So many includes stand in one search.
INCLUDES = 8

#: Kinds of search parameters.
KINDS = frozenset({"reference", "token", "string", "uri", "date", "number", "quantity", "composite", "special"})

#: Search parameters that all types have.
PROBES_OF_ALL = {
    "_id": "_id={id}&_total=accurate",
    "_lastUpdated": "_lastUpdated=gt2000&_id={id}",
    "_profile": "_profile:missing=true&_id={id}",
    "_security": "_security:not=nothing&_id={id}",
    "_source": "_source:missing=true&_id={id}",
    "_tag": "_tag=urn:test:owner|{mark}&_total=accurate",
    "_text": "_text={mark} AND words",
    "_content": "_content={mark} OR zyxnothing",
}
