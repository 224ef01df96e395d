"""What tests share that hold the server to its own CapabilityStatement: the statement, and many requests at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from profiles.registry import registry

Json = dict[str, Any]

#: Requests that are on their way at once.
AT_ONCE = 64

#: The types, dealt out so that each portion has common and rare ones.
PORTIONS = 8
PORTION_NAMES = [f"portion{n + 1}of{PORTIONS}" for n in range(PORTIONS)]


def portion(number: int) -> tuple[str, ...]:
    """The types of one portion."""
    return registry().resource_types[number::PORTIONS]


@dataclass(frozen=True)
class Call:
    """One request below the FHIR base."""

    method: str
    address: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.address}"


class Claimant:
    """A server and its statement, fetched from it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        answer = server.client.get("metadata")
        assert answer.status_code == 200
        self.statement: Json = answer.json()
        (self.rest,) = self.statement["rest"]
        self.rows: dict[str, Json] = {row["type"]: row for row in self.rest["resource"]}

    def send(self, calls: Sequence[Call]) -> list[httpx.Response]:
        """The answers to all of them, in order."""
        answers: list[httpx.Response] = []
        for start in range(0, len(calls), AT_ONCE):
            answers += self.server.gather(*map(self._request, calls[start : start + AT_ONCE]))
        return answers

    def _request(self, call: Call) -> httpx.Request:
        headers = {"Accept": "application/fhir+json", **dict(call.headers)}  # of a Binary, too, the resource
        address = f"{self.server.base_url}/{call.address}".rstrip("/")
        client: httpx.Client = self.server.client
        if call.body is None or isinstance(call.body, bytes | str):
            return client.build_request(call.method, address, headers=headers, content=call.body)
        headers.setdefault("Content-Type", "application/fhir+json")
        return client.build_request(call.method, address, headers=headers, json=call.body)

    def expect(self, status: int | Iterable[int], calls: Sequence[Call]) -> list[httpx.Response]:
        """The answers, each of which has the status, or one of the statuses."""
        allowed = {status} if isinstance(status, int) else set(status)
        answers = self.send(calls)
        wrong = [(c, a) for c, a in zip(calls, answers, strict=True) if a.status_code not in allowed]
        if wrong:
            told = "\n".join(f"{c}: {a.status_code} {a.text[:300]}" for c, a in wrong[:10])
            pytest.fail(f"{len(wrong)} of {len(calls)} are not answered with {sorted(allowed)}:\n{told}")
        return answers
