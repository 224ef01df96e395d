"""Letters by SMS: handed to a provider's webhook as JSON.

The body is `{"to", "text", "key"}`; `key`, also sent as `Idempotency-Key`, is the same when a letter is sent again.
What a provider wants otherwise, a few lines between the two translate.
"""

from __future__ import annotations

import httpx

from fhir_server.interactions.outlets import Letter, UndeliverableError

TIMEOUT_S = 10.0

#: What a provider says of numbers that are none.
REFUSED = frozenset({400, 404, 410, 422})


class SmsOutlet:
    """Tells people by SMS.

    Args:
        address: of the webhook, which the operator chose; it holds what the provider knows the server by
        link: to where people sign in
    """

    public_key = ""

    def __init__(self, address: str, link: str, client: httpx.AsyncClient | None = None) -> None:
        self._address = address
        self._link = link
        self._client = client

    async def send(self, to: str, letter: Letter) -> None:
        headers = {"Idempotency-Key": letter.key}
        body = {"to": to, "text": f"{letter.text} {self._link}", "key": letter.key}
        if self._client is not None:
            answer = await self._client.post(self._address, json=body, headers=headers)
        else:
            async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
                answer = await client.post(self._address, json=body, headers=headers)
        if answer.status_code in REFUSED:
            raise UndeliverableError(f"the provider answers {answer.status_code}")
        answer.raise_for_status()
