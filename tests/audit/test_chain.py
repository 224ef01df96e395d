"""The chain itself: what is written comes back, and nothing about it can be changed unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhir_server.audit.chain import GENESIS, Link, fault_of, link_of, linked, row_of, seal_of
from fhir_server.audit.event import Batch, Event, Part, Who, pack, unpack
from tests.audit.conftest import BASE, KEY, read_of


def chain(count: int, key: bytes = KEY) -> list[Link]:
    links: list[Link] = []
    for number in range(1, count + 1):
        packed = pack(Batch(BASE, [read_of("p1", number)]))
        links.append(linked(number, links[-1].digest if links else GENESIS, number * 1000, 1, packed, key))
    return links


def faults(links: list[Link], *keys: bytes) -> list[str | None]:
    """What is wrong with each, walked as `verify` does, but without stopping at the first."""
    found, number, previous = [], 1, GENESIS
    for link in links:
        found.append(fault_of(link, number, previous, keys))
        number, previous = link.number + 1, link.digest
    return found


def test_events_come_back_from_a_batch_as_they_went_in() -> None:
    entry = Part("create", 201, "POST", "Patient", targets=("Patient/1/_history/1",), patients=("1",))
    event = Event(
        1, Part("transaction", 200, "POST"), Who("a", "b"), "::1", "r", (entry, Part("", 404, "GET", "é", "ü=1"))
    )
    batch = Batch(BASE, [event, read_of("p")])
    assert unpack(pack(batch)) == batch


@pytest.mark.parametrize("packed", [b"", b"nonsense", pack(Batch(BASE, []))[:-1]])
def test_bytes_that_are_no_batch_are_told_from_one(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no batch"):
        unpack(packed)


def test_a_whole_chain_has_no_fault() -> None:
    links = [link_of(row_of(link)) for link in chain(4)]
    assert faults(links, b"another key", KEY) == [None] * 4
    assert faults(chain(3, key=b"")) == [None] * 3


@pytest.mark.parametrize(
    "changed",
    [
        {"packed": pack(Batch(BASE, [read_of("somebody else", 2)]))},
        {"count": 2},
        {"moment_us": 1},
        {"digest": bytes(32)},
        {"seal": bytes(32)},
        {"previous": bytes(32)},
        {"number": 7},
    ],
)
def test_a_change_of_any_member_of_a_batch_is_found_there(changed: dict[str, object]) -> None:
    links = chain(3)
    links[1] = replace(links[1], **changed)  # type: ignore[arg-type]
    first = next(n for n, fault in enumerate(faults(links, KEY)) if fault)
    assert first == 1


def test_batches_removed_moved_or_put_in_between_are_found() -> None:
    one, two, three, four = chain(4)
    assert faults([one, three, four], KEY)[1] == "batch 2 is missing"
    assert faults([one, four], KEY)[1] == "batch 2 to 3 is missing"
    assert faults([one, replace(three, number=2), replace(two, number=3), four], KEY)[1]
    foreign = linked(2, one.digest, 5, 1, two.packed, KEY)
    assert faults([one, foreign, replace(two, number=3), three], KEY)[2]


def test_a_chain_made_anew_without_the_key_is_consistent_and_yet_not_believed() -> None:
    one, two, *_ = chain(3)
    forged = linked(2, one.digest, two.moment_us, 1, pack(Batch(BASE, [read_of("nobody")])), b"guessed" * 5)
    after = linked(3, forged.digest, 3000, 1, two.packed, b"guessed" * 5)
    assert faults([one, forged, after]) == [None] * 3
    assert faults([one, forged, after], KEY)[1] == "it does not carry the seal of this server"


def test_without_a_key_nothing_is_sealed() -> None:
    assert seal_of(b"", bytes(32)) == b""
    assert "s" not in row_of(chain(1, key=b"")[0])
