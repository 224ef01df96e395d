"""What the conformance tests share: JSON compared to the last digit, read by another parser than the server's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.claims import Claimant


class Exact:
    """JSON as a tree whose numbers are pairs `("number", text as written)`, and its comparison."""

    @staticmethod
    def tree(data: bytes | str) -> Any:
        """Parse; numbers keep their text, objects their order."""

        def number(text: str) -> tuple[str, str]:
            return ("number", text)

        return json.loads(data, parse_float=number, parse_int=number, parse_constant=number)

    @staticmethod
    def text(tree: Any) -> str:
        """A tree as text that is equal exactly when values, digits and the order of members are."""
        return json.dumps(tree, indent=0)

    @staticmethod
    def without_server_marks(resource: dict[str, Any]) -> dict[str, Any]:
        """A resource without what the server sets, `meta.versionId` and `meta.lastUpdated`.

        `resourceType`, `id` and `meta` come first, wherever they stood: the server may put them there.
        """
        marks = ("versionId", "lastUpdated", "_versionId", "_lastUpdated")
        meta = {name: value for name, value in resource.get("meta", {}).items() if name not in marks}
        head = {name: resource[name] for name in ("resourceType", "id") if name in resource}
        if meta:
            head["meta"] = meta
        return {
            **head,
            **{name: value for name, value in resource.items() if name not in ("resourceType", "id", "meta")},
        }


@pytest.fixture(scope="session")
def exact() -> type[Exact]:
    return Exact


@pytest.fixture(scope="session")
def in_portions(make_server: Any) -> Callable[..., list[Any]]:
    """Sends many GETs to a server, 100 at once, and gives their answers in order."""

    def get_all(server: Any, addresses: list[str]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(addresses), 100):
            requests = [
                server.client.build_request("GET", f"{server.base_url}/{address}")
                for address in addresses[start : start + 100]
            ]
            answers += server.gather(*requests)
        return answers

    return get_all


@pytest.fixture(scope="session")
def claimant(make_server: Callable[..., Any]) -> Claimant:
    """A server of its own, which is held to its CapabilityStatement: the indexes of 146 types are made once."""
    return Claimant(make_server())
