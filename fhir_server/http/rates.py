"""How many requests a minute a client may send, before it is told to wait.

Each key (a network address, or an app with its user) has a bucket of as many requests as it may send in a minute; it
fills evenly. That allows bursts, and no more than the rate in the long run. Kept is one number for each key: the moment
at which its bucket will be full again (the "generic cell rate algorithm"). It costs less than a microsecond; the
package `limits`, which was measured, twelve to seventeen.

Buckets live in the process: with several workers a client may send that much to each of them. What must hold across
workers (guesses of passwords and codes) is counted in the database instead: `smart_auth.throttle`.

Spec: https://www.rfc-editor.org/rfc/rfc6585#section-4, https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from fhir_server.model.access import Caller
from fhir_server.model.errors import TooManyRequestsError

MINUTE_S = 60.0

#: Keys that are remembered. The one that was used longest ago is forgotten first, so it takes as many other addresses
#: to get one of them forgotten.
REMEMBERED = 50_000


class Rate:
    """So many requests a minute for each key; 0 is any number."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each_s = MINUTE_S / per_minute if per_minute else 0.0
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str) -> int:
        """Count a request; the whole seconds that it must wait instead, in which case it is not counted, or 0."""
        if not self._each_s:
            return 0
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._each_s
        if full_at - now > MINUTE_S + self._each_s / 2:
            return max(1, math.ceil(full_at - now - MINUTE_S))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)
        return 0

    def require(self, key: str) -> None:
        """Count a request.

        Raises:
            TooManyRequestsError: 429; it must wait, as `Retry-After` says.
        """
        if wait_s := self.wait_s(key):
            raise TooManyRequestsError(
                f"These are more requests a minute than this server takes from one client; wait {wait_s} s.",
                key="HS-LIMIT-RATE",
                headers={"Retry-After": str(wait_s)},
            )


class Rates:
    """What FHIR requests are counted by."""

    def __init__(
        self, address_per_minute: int, client_per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.of_address = Rate(address_per_minute, clock)
        self.of_client = Rate(client_per_minute, clock)

    def require(self, caller: Caller) -> None:
        """Count a request of a caller: an app with its user. The operator, who loads and mends, is not counted.

        Raises:
            TooManyRequestsError: 429
        """
        who = caller.identity
        if who.role != "operator":
            self.of_client.require(f"{who.client_id}\0{who.subject}")


@lru_cache(maxsize=4096)
def place_of(address: str) -> str:
    """An address as limits count it: of IPv6 the network of 64 bits, since any of its addresses is there to be had."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
