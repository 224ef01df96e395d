"""What the trail keeps of one happening, as small as can be; `resource` makes an AuditEvent of it later.

Events are msgspec structs that travel as arrays: making one costs less than a microsecond, and 500 of them take about
10 KiB in the database.

Spec: https://hl7.org/fhir/R4/security.html#audit, https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from fhir_server.model.access import Caller
from fhir_server.model.clock import now_us

#: How it went: http://hl7.org/fhir/audit-event-outcome.
Outcome = Literal[0, 4, 8, 12]
DONE: Final = 0
REFUSED: Final = 4
FAILED: Final = 8

#: What an event can be of: the interactions by their FHIR codes, what happens at the doors, and what the trail itself
#: does. https://hl7.org/fhir/R4/valueset-type-restful-interaction.html
INTERACTIONS: Final = frozenset(
    {
        "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "history-system", "create",
        "search-type", "search-system", "transaction", "batch", "operation",
    }
)  # fmt: skip
RETENTION: Final = "audit-retention"


class Who(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Who did it, and why they may; the words of `model.access.Identity`.

    Attributes:
        name: of somebody who has no account here, the user of the operating system at the command line
    """

    subject: str = ""
    client_id: str = ""
    role: str = ""
    fhir_user: str = ""
    organization: str = ""
    purpose: str = ""
    reason: str = ""
    token_id: str = ""
    policy: str = ""
    name: str = ""


class Part(msgspec.Struct, array_like=True, omit_defaults=True):
    """One thing that was done: the request itself, or one entry of a Bundle.

    Attributes:
        kind: one of `INTERACTIONS`, or a kind of happening
        status: the HTTP status; 0 where there is none
        method, path, query: what was asked, below the FHIR base; of a search by POST the query is its form
        targets: the resources that were read or written, with their versions where these are known
        patients: the ids of the Patients whose data was shown or changed
        detail: the key of a refusal (`HS-AUTH`), or a few words of a happening; never health data
    """

    kind: str
    status: int = 0
    method: str = ""
    path: str = ""
    query: str = ""
    targets: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    detail: str = ""
    outcome: int = DONE


class Event(msgspec.Struct, array_like=True, omit_defaults=True):
    """One happening.

    Attributes:
        moment_us: when, microseconds since 1970
        what: what was done
        who: by whom
        address: where the request came from
        request_id: `X-Request-Id` of the answer
        entries: of a batch or transaction, its entries
    """

    moment_us: int
    what: Part
    who: Who = Who()
    address: str = ""
    request_id: str = ""
    entries: tuple[Part, ...] = ()

    @property
    def bytes_held(self) -> int:
        """About how much memory it keeps in use until it is written."""
        return 500 + 300 * len(self.entries)

    @property
    def parts(self) -> int:
        """How many things were done: the request, and each entry of a Bundle."""
        return 1 + len(self.entries)

    def event(self) -> Event:
        return self


class Eventful(Protocol):
    """What can become an event when there is time for it."""

    @property
    def bytes_held(self) -> int: ...
    @property
    def parts(self) -> int: ...
    def event(self) -> Event: ...


def who_of(caller: Caller) -> Who:
    identity = caller.identity
    return Who(
        identity.subject,
        identity.client_id,
        identity.role if identity.subject else "",
        identity.fhir_user or "",
        identity.organization or "",
        identity.purpose if identity.subject else "",
        identity.reason,
        identity.token_id,
        caller.policy.version,
    )


def happened(
    kind: str,
    *,
    outcome: int = DONE,
    who: Who = Who(),  # noqa: B008  (it is frozen)
    address: str = "",
    request_id: str = "",
    patients: Sequence[str] = (),
    targets: Sequence[str] = (),
    detail: str = "",
) -> Event:
    """An event of now that is no FHIR request: a sign-in, a token, breaking the glass, a decision about consent."""
    part = Part(kind, targets=tuple(targets), patients=tuple(patients), detail=detail, outcome=outcome)
    return Event(now_us(), part, who, address, request_id)


class Batch(msgspec.Struct, array_like=True):
    """What is stored, and hashed, together.

    Attributes:
        base_url: the FHIR base at that time, below which the addresses of the events are
        events: in the order in which they happened in their process
    """

    base_url: str
    events: list[Event]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)

#: Level 1: five times smaller, at a fifth of the time of the default level.
LEVEL = 1


def pack(batch: Batch) -> bytes:
    """A batch as the bytes that are stored and hashed."""
    return zlib.compress(_encoder.encode(batch), LEVEL)


def unpack(packed: bytes) -> Batch:
    """The batch that bytes hold.

    Raises:
        ValueError: the bytes are no batch.
    """
    try:
        return _decoder.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"no batch of events: {error}") from error
