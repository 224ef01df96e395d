"""The fixtures that other tests lean on do what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import SERVERS


def test_relative_addresses_start_at_the_fhir_base_and_absolute_ones_do_not(client: httpx.Client) -> None:
    assert client.get("metadata").json()["resourceType"] == "CapabilityStatement"
    assert client.get("http://test/health/ready").status_code == 200


def test_many_requests_can_be_under_way_at_once(server: Any) -> None:
    answers = server.gather(*(server.client.build_request("GET", "Patient/none") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [404] * 20


def test_each_made_server_has_a_database_of_its_own(make_server: Callable[..., Any]) -> None:
    one, other = make_server(), make_server()
    assert one.client.put("Patient/p", json={"resourceType": "Patient", "id": "p"}).status_code == 201
    assert one.client.get("Patient/p").status_code == 200
    assert other.client.get("Patient/p").status_code == 404


def test_the_test_data_is_unpacked(test_data: Path) -> None:
    assert len(list((test_data / "synthea-blaze").glob("*.json"))) == 122


@pytest.fixture(scope="session")
def lasting(make_server: Callable[..., Any]) -> Any:
    return make_server()


def test_a_server_ends_with_its_module_unless_the_session_wants_it(
    lasting: Any, make_server: Callable[..., Any]
) -> None:
    own = make_server()
    SERVERS.of_module.close()  # as at the end of a module
    assert own.client.is_closed
    assert not lasting.client.is_closed
    assert lasting.client.get("Patient/none").status_code == 404
