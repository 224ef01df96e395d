"""What people were told: in their log of events, and by mail, which is kept here and goes nowhere."""

from __future__ import annotations

import time
from typing import Any

import httpx

from fhir_server.interactions.outlets import Letter
from resources.notification.delivering import ENDED
from resources.notification.events import after
from tests.conftest import InProcessServer

Json = dict[str, Any]
MAIL = [{"system": "email", "value": "kim@example.org"}]


class Told:
    """What a server tells people who want mail alone.

    Args:
        client: somebody who may say for others how these are told, and ask what they were told
    """

    def __init__(self, server: InProcessServer, client: httpx.Client, *people: str) -> None:
        self.letters: list[Letter] = []
        self._server = server
        self._client = client
        server.context.outlets["email"] = self
        for person in people:
            resource = client.get(person).json()
            assert client.put(person, json={**resource, "telecom": MAIL}).status_code == 200
            preference = [{"name": "kind", "valueCode": "*"}, {"name": "channel", "valueCode": "email"}]
            self._call("$notification-preferences", person, {"name": "preference", "part": preference})

    async def send(self, to: Any, letter: Letter) -> None:
        self.letters.append(letter)

    def events(self, person: str, *about: str) -> list[tuple[str, str]]:
        """Of what somebody was told in the app, of all or of some things: the kind, and where to look."""
        found = self._server.run(after(self._server.context.repository.store, person, 0))
        return [(event.kind, event.focus) for event in found if not about or event.focus in about]

    def mails(self, person: str, *about: str) -> list[tuple[str, str]]:
        """The same of what somebody was told by mail, and by mail alone, when all is delivered; the oldest first."""
        for _ in range(600):
            self._server.run(self._server.context.timers.run_due())
            told = [parts(row["part"]) for row in self._call("$deliveries", person)]
            rows = [row for row in told if not about or row["focus"] in about]
            if all(row["channels"] and {s for _, s in row["channels"]} <= ENDED for row in rows):
                assert all(row["channels"] == [("email", "delivered")] for row in rows), rows
                return [(row["kind"], row["focus"]) for row in reversed(rows)]
            time.sleep(0.05)
        raise AssertionError(f"what was told was not delivered within half a minute: {rows}")

    def _call(self, operation: str, person: str, *more: Json) -> list[Json]:
        rows = [{"name": "person", "valueReference": {"reference": person}}, *more]
        answer = self._client.post(operation, json={"resourceType": "Parameters", "parameter": rows})
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json().get("parameter", [])
        return found


def parts(given: list[Json]) -> Json:
    """A row of `$deliveries`."""
    channels = [tuple(one["valueCode"] for one in row["part"][:2]) for row in given if row["name"] == "channel"]
    return {"kind": given[0]["valueCode"], "focus": given[1]["valueReference"]["reference"], "channels": channels}
