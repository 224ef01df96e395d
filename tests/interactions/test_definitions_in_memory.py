"""What is derived of definitions is theirs: it goes with the server that had them, and changes when they change."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.interactions.merging.referrers import fields_to_patients
from profiles.registry import Registry, SearchParameter, registry
from tests.conftest import SERVERS
from tests.packages import package, parameter, profile

#: More than there may be registries.
CHANGES = 3

REFERENCE = SearchParameter(
    url="http://a.example/SearchParameter/witness",
    code="witness",
    type="reference",
    base=("Basic",),
    expression="Basic.extension('http://a.example/witness').value.ofType(Reference)",
    target=("Patient",),
    own=True,
)


def registries() -> list[Registry]:
    """All that are in memory."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is Registry]


def _asked_of_everything_that_is_derived(client: httpx.Client) -> None:
    added = '<add sel="f:Patient/f:meta" pos="after"><f:active value="true"/></add>'
    patch = f'<diff xmlns:f="http://hl7.org/fhir">{added}</diff>'
    replaced = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Patient.active"},
        {"name": "value", "valueBoolean": False},
    ]
    steps = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": replaced}]}
    xml = '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    own = parameter("favourite", "Patient.extension('http://a.example/favourite').value.ofType(code)", status="active")
    requests = [
        client.build_request("PUT", "Patient/a", json={"resourceType": "Patient", "id": "a"}),
        client.build_request("PUT", "Patient/b", json={"resourceType": "Patient", "id": "b"}),
        client.build_request("POST", "SearchParameter", json=own),
        client.build_request("POST", "StructureDefinition", json=profile("strict", {"path": "Patient.name", "min": 1})),
        client.build_request("POST", "Patient", content=xml, headers={"Content-Type": "application/fhir+xml"}),
        client.build_request("GET", "Patient/a?_format=xml"),
        client.build_request(
            "PATCH", "Patient/a", content=patch, headers={"Content-Type": "application/xml-patch+xml"}
        ),
        client.build_request("PATCH", "Patient/a", json=steps),
        client.build_request("GET", "Patient?name=a&_revinclude=*&_has:Observation:patient:code=a"),
        client.build_request("GET", "Patient/a/$everything"),
        client.build_request("GET", "Patient/a/Observation"),
        client.build_request("GET", "Patient/a/$graphql?query={name{family}}"),
        client.build_request("GET", "metadata"),
        client.build_request("POST", "Patient/$validate", json={"resourceType": "Patient"}),
        client.build_request("POST", "Patient/$merge", json=_merge("b", "a")),
        client.build_request("GET", "http://test/openapi.json"),
    ]
    for request in requests:
        answer = client.send(request)
        assert answer.status_code in (200, 201), (request.url, answer.text[:300])


def _merge(source: str, target: str) -> dict[str, Any]:
    named = {"source-patient": source, "target-patient": target}
    rows = [{"name": name, "valueReference": {"reference": f"Patient/{one}"}} for name, one in named.items()]
    return {"resourceType": "Parameters", "parameter": rows}


def test_a_server_that_has_ended_leaves_none_of_its_definitions_behind(make_server: Callable[..., Any]) -> None:
    server = make_server()
    _asked_of_everything_that_is_derived(server.client)
    left = [weakref.ref(server.context.registry), weakref.ref(server.context.repository.indexer)]
    del server
    SERVERS.of_module.close()  # as at the end of a module
    gc.collect()
    assert [one() for one in left] == [None, None]


def test_packages_that_change_leave_no_definitions_behind(
    make_server: Callable[..., Any], mongodb_uri: str, tmp_path: Path
) -> None:
    before = registries()
    server = make_server()
    environment = {
        "MONGODB_URI": mongodb_uri,
        "HEALTHSPHERE_MONGODB_DATABASE": server.settings.mongodb_database,
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
    }
    for number in range(CHANGES):
        code = f"code-{number}"
        shouted = parameter(code, "Patient.name.given.select(upper())", type="string")  # more than a path is compiled
        file = package(tmp_path, profile("named"), shouted, version=f"1.{number}.0")
        result = CliRunner().invoke(app, ["package", "add", str(file), "--no-reindex"], env=environment)
        assert result.exit_code == 0, result.output
        server.run(server.context.definitions.refresh(at_once=True))
        assert code in server.context.registry.parameters_of("Patient")
        assert server.client.get("metadata").status_code == 200
    new = [one for one in registries() if not any(one is known for known in before)]
    assert server.context.registry in new
    # Its own; and one on which search parameters are tried, should a server of other tests just do so.
    assert len(new) <= 2


def test_the_statement_names_a_reference_by_which_one_can_search_since_a_moment(
    make_server: Callable[..., Any],
) -> None:
    client = make_server().client
    found = client.get("metadata").json()["rest"][0]["resource"]
    assert "Basic:witness" not in next(row for row in found if row["type"] == "Basic")["searchInclude"]
    own = parameter("witness", REFERENCE.expression or "", of="Basic", type="reference", target=["Patient"])
    assert client.put(f"SearchParameter/{own['id']}", json={**own, "status": "active"}).status_code == 201
    found = client.get("metadata").json()["rest"][0]["resource"]
    assert "Basic:witness" in next(row for row in found if row["type"] == "Basic")["searchInclude"]
    assert "Basic:witness" in next(row for row in found if row["type"] == "Patient")["searchRevInclude"]


def test_what_leads_to_a_patient_by_a_parameter_of_the_operators_own_is_merged_too() -> None:
    known = registry().copy()
    assert "x.witness" not in fields_to_patients("Basic", known)
    known.adopt((REFERENCE,))
    assert "x.witness" in fields_to_patients("Basic", known)
    known.adopt(())
    assert "x.witness" not in fields_to_patients("Basic", known)
