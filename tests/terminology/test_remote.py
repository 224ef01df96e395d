"""A terminology server elsewhere: asked for what is not held, never waited for long, never taken for a yes.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from integrations.terminology_server import (
    ALONE_S,
    MOST_FAILURES,
    Circuit,
    TerminologyServer,
    terminology_server_of,
)
from smart_auth.outbound import Outbound
from tests.terminology.samples import FOODS, SETS, answers, parameters, value_set

Json = dict[str, Any]


class Elsewhere:
    """A terminology server that knows of `bread`; it notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Json, str]] = []
        self.status = 200
        self.wait_s = 0.0
        self.body: bytes | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((self.path, sent, self.headers.get("authorization", "")))
                time.sleep(outer.wait_s)
                given = {row["name"]: next(v for k, v in row.items() if k != "name") for row in sent["parameter"]}
                body = outer.body if outer.body is not None else json.dumps(outer.answer(self.path, given)).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/fhir"

    def answer(self, path: str, given: dict[str, Any]) -> Json:
        known = given.get("code") == "bread"
        if path.endswith("CodeSystem/$lookup") and known:
            return parameters(name="Foods", display="Bread of elsewhere")
        if path.endswith("$validate-code"):
            return parameters(result=known, message="as we see it")
        if path.endswith("$expand"):
            contains = [{"system": FOODS, "code": "bread"}]
            return {"resourceType": "ValueSet", "status": "active", "expansion": {"contains": contains}}
        if path.endswith("$subsumes"):
            return {"resourceType": "Parameters", "parameter": [{"name": "outcome", "valueCode": "subsumes"}]}
        if path.endswith("$translate"):
            return parameters(result=True)
        return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere()
    yield server
    server.close()


@pytest.fixture(scope="module")
def joined(make_server: Callable[..., Any]) -> Iterator[tuple[Any, Elsewhere]]:
    """A server that asks elsewhere, and where it asks."""
    other = Elsewhere()
    server = make_server(
        terminology_server=other.address,
        terminology_authorization=SecretStr("Bearer sesame"),
        outbound_allow=("127.0.0.1",),
    )
    server.client.put("ValueSet/foods", json=value_set("foods", {"system": FOODS}))
    yield server.client, other
    other.close()


def ask(client: Any, operation: str, status: int = 200, **given: Any) -> Json:
    answer = client.post(operation, json=parameters(**given))
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_what_is_not_held_is_looked_up_elsewhere_once(joined: tuple[Any, Elsewhere]) -> None:
    client, other = joined
    for _ in range(2):
        body = ask(client, "CodeSystem/$lookup", system=FOODS, code="bread")
        assert answers(body)["display"] == "Bread of elsewhere"
    lookups = [row for row in other.asked if row[0] == "/fhir/CodeSystem/$lookup"]
    assert len(lookups) == 1
    assert lookups[0][2] == "Bearer sesame"
    ask(client, "CodeSystem/$lookup", 404, system=FOODS, code="gravel")


def test_what_is_held_is_not_asked_elsewhere(joined: tuple[Any, Elsewhere]) -> None:
    client, other = joined
    before = len(other.asked)
    ask(client, "CodeSystem/$lookup", system="http://hl7.org/fhir/administrative-gender", code="male")
    ask(client, "CodeSystem/$lookup", 404, system="http://hl7.org/fhir/administrative-gender", code="none")
    assert len(other.asked) == before


def test_codes_are_judged_elsewhere_by_a_value_set_that_is_sent_along_where_it_is_held_here(
    joined: tuple[Any, Elsewhere],
) -> None:
    client, other = joined
    told = answers(ask(client, "ValueSet/$validate-code", url=SETS + "foods", system=FOODS, code="bread"))
    assert told["result"] is True
    assert other.asked[-1][1]["parameter"][0]["resource"]["url"] == SETS + "foods"
    told = answers(ask(client, "ValueSet/$validate-code", url="urn:not:held", system=FOODS, code="gravel"))
    assert (told["result"], told["message"]) == (False, "as we see it")
    assert answers(ask(client, "CodeSystem/$validate-code", url=FOODS, code="bread"))["result"] is True


def test_expansions_comparisons_and_translations_come_from_elsewhere(joined: tuple[Any, Elsewhere]) -> None:
    client, _ = joined
    body = ask(client, "ValueSet/$expand", url="urn:not:held")
    assert [row["code"] for row in body["expansion"]["contains"]] == ["bread"]
    given = {"system": FOODS, "codeA": "food", "codeB": "bread"}
    assert answers(ask(client, "CodeSystem/$subsumes", **given))["outcome"] == "subsumes"
    assert answers(ask(client, "ConceptMap/$translate", url="urn:not:held", system=FOODS, code="x"))["result"] is True


def test_a_binding_to_what_is_not_held_is_judged_elsewhere(joined: tuple[Any, Elsewhere]) -> None:
    client, _ = joined
    profile = {
        "resourceType": "StructureDefinition", "id": "food-note", "url": "http://example.org/StructureDefinition/food",
        "name": "Food", "status": "active", "kind": "resource", "abstract": False, "type": "Basic",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic", "derivation": "constraint",
        "differential": {"element": [{"id": "Basic.code", "path": "Basic.code", "binding": {
            "strength": "required", "valueSet": SETS + "foods"}}]},
    }  # fmt: skip
    assert client.put("StructureDefinition/food-note", json=profile).status_code == 201

    def errors(code: str) -> list[str]:
        body = {"resourceType": "Basic", "code": {"coding": [{"system": FOODS, "code": code}]}}
        answer = client.post("Basic/$validate", params={"profile": profile["url"]}, json=body).json()
        return [row["diagnostics"] for row in answer["issue"] if row["severity"] == "error"]

    assert errors("bread") == []
    (told,) = errors("gravel")
    assert "gravel" in told


def server_at(address: str, **more: Any) -> TerminologyServer:
    return TerminologyServer(address, Outbound(("127.0.0.1",)), **more)


def test_a_server_that_is_slow_is_not_waited_for(elsewhere: Elsewhere) -> None:
    elsewhere.wait_s = 1.0

    async def run() -> Json | None:
        server = server_at(elsewhere.address, timeout_s=0.1)
        try:
            return await server.ask("CodeSystem/$lookup", parameters(code="bread"))
        finally:
            await server.close()

    assert asyncio.run(run()) is None


@pytest.mark.parametrize(
    ("status", "body"), [(500, None), (302, None), (401, None), (429, None), (200, b"<html>"), (200, b"[1]" * 1)]
)
def test_a_fault_is_not_known_and_never_yes(elsewhere: Elsewhere, status: int, body: bytes | None) -> None:
    elsewhere.status, elsewhere.body = status, body

    async def run() -> Json | None:
        server = server_at(elsewhere.address)
        try:
            return await server.ask("ValueSet/$validate-code", parameters(code="bread"))
        finally:
            await server.close()

    assert asyncio.run(run()) is None


def test_a_server_that_fails_again_and_again_is_left_alone_for_a_while(elsewhere: Elsewhere) -> None:
    elsewhere.status = 503
    moment = [0.0]

    async def run() -> None:
        server = server_at(elsewhere.address, circuit=Circuit(lambda: moment[0]))
        for number in range(MOST_FAILURES + 3):
            assert await server.ask("CodeSystem/$lookup", parameters(code=f"c{number}")) is None
        assert len(elsewhere.asked) == MOST_FAILURES
        moment[0] = ALONE_S + 1  # one tries, and fails
        await server.ask("CodeSystem/$lookup", parameters(code="bread"))
        await server.ask("CodeSystem/$lookup", parameters(code="bread"))
        assert len(elsewhere.asked) == MOST_FAILURES + 1
        moment[0], elsewhere.status = 3 * ALONE_S, 200
        assert await server.ask("CodeSystem/$lookup", parameters(code="bread")) is not None
        await server.ask("CodeSystem/$validate-code", parameters(code="bread"))
        assert len(elsewhere.asked) == MOST_FAILURES + 3
        await server.close()

    asyncio.run(run())


def test_the_same_question_at_once_is_asked_once(elsewhere: Elsewhere) -> None:
    elsewhere.wait_s = 0.2

    async def run() -> list[Json | None]:
        server = server_at(elsewhere.address)
        found = await asyncio.gather(*(server.ask("CodeSystem/$lookup", parameters(code="bread")) for _ in range(5)))
        await server.close()
        return list(found)

    assert all(asyncio.run(run()))
    assert len(elsewhere.asked) == 1


def test_a_private_address_is_asked_only_where_the_operator_names_it(elsewhere: Elsewhere) -> None:
    async def run() -> Json | None:
        server = TerminologyServer(elsewhere.address, Outbound())
        try:
            return await server.ask("CodeSystem/$lookup", parameters(code="bread"))
        finally:
            await server.close()

    assert asyncio.run(run()) is None
    assert elsewhere.asked == []


def test_a_server_without_tls_must_be_named_as_allowed() -> None:
    with pytest.raises(SetupError, match="OUTBOUND_ALLOW"):
        terminology_server_of(Settings(terminology_server="http://tx.example.org/r4"))
    assert terminology_server_of(Settings(terminology_server="https://tx.example.org/r4")) is not None
    assert terminology_server_of(Settings()) is None
