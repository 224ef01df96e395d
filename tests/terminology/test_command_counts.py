"""How many commands each terminology operation sends to MongoDB, fixed, so that nobody adds one by accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pymongo import monitoring

from fhir_server.code_systems import import_csv
from fhir_server.terminology.system import About
from tests.conformance.test_command_counts import Listener
from tests.terminology.samples import ANIMALS, SETS, animals, by, value_set

BIG = "http://example.org/CodeSystem/counted"

#: Which versions of code systems are current; those in memory, and big ones.
CURRENT = ["query CodeSystem", "query _code_systems"]

#: Which versions of value sets are current.
SETS_CURRENT = ["query ValueSet"]


@pytest.fixture(scope="module")
def counted(make_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Listener]:
    listener = Listener()
    monitoring.register(listener)
    server = make_server()
    listener.database = server.settings.mongodb_database
    path = tmp_path_factory.mktemp("csv") / "some.csv"
    path.write_text("code,display,parent\na,A,\nb,B,a\nc,C,b\n")
    import_csv(server.settings, path, About(BIG, "1", "Counted"), lambda *_: None, grace_s=0)
    held = (
        animals(),
        value_set("mammals", by("concept", "is-a", "mammal")),
        value_set("inner", by("concept", "is-a", "b", BIG)),
        value_set("outer", {"valueSet": [SETS + "inner"]}),
    )
    for resource in held:
        assert server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource).status_code == 201
    return server, listener


@pytest.mark.parametrize(
    ("address", "commands"),
    [
        (f"CodeSystem/$lookup?system={ANIMALS}&code=dog", CURRENT),
        ("CodeSystem/$lookup?system=http://unitsofmeasure.org&code=mg", []),
        # the concept, what is below it, and what its parent is called
        (f"CodeSystem/$lookup?system={BIG}&code=c", [*CURRENT, *["query _concepts"] * 3]),
        (f"CodeSystem/$subsumes?system={ANIMALS}&codeA=dog&codeB=cat", CURRENT),
        (f"ValueSet/$validate-code?url={SETS}mammals&system={ANIMALS}&code=dog", [*SETS_CURRENT, *CURRENT]),
        (f"ValueSet/$expand?url={SETS}mammals", [*SETS_CURRENT, *CURRENT]),
        # the concept that the filter names, and the page; the count is kept
        (f"ValueSet/$expand?url={SETS}outer&count=5", [*SETS_CURRENT, *CURRENT, *["query _concepts"] * 2]),
        ("Basic?code:in=" + SETS + "mammals", [*SETS_CURRENT, *CURRENT, "query Basic"]),
        (f"Basic?code:below={ANIMALS}|mammal", [*CURRENT, "query Basic"]),
        ("Basic?code:in=http://hl7.org/fhir/ValueSet/administrative-gender", [*SETS_CURRENT, *CURRENT, "query Basic"]),
    ],
)
def test_an_operation_sends_this_and_no_more(counted: tuple[Any, Listener], address: str, commands: list[str]) -> None:
    server, listener = counted
    assert server.client.get(address).status_code == 200  # what was read stays
    with listener.noting() as noted:
        answer = server.client.get(address)
    assert answer.status_code == 200, answer.text
    assert sorted(noted) == sorted(commands)
