"""The sign-in side on the trail, the keys that seal it, and who may write AuditEvents over FHIR."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from fhir_server.audit.doors import Doors, event_of
from fhir_server.audit.keys import load_or_create_keys, seal_keys
from fhir_server.audit.rules import may_write
from fhir_server.audit.trail import Pace, Trail
from fhir_server.audit.verify import links
from fhir_server.model.access import Identity, Scope, Verb
from fhir_server.model.happening import Happening
from fhir_server.storage.setup import SetupError
from tests.audit.conftest import BASE, Opened

SYSTEM = Scope("system", "AuditEvent", "c")


def test_a_sign_in_is_durable_when_it_was_told(opened: Opened) -> None:
    async def work() -> int:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=30))
            await trail.start()
            await Doors(trail).happened(Happening("sign-in", account_id="a", address="192.0.2.1", detail="passkey"))
            found = len([link async for link in links(store.batches)])
            await trail.close()
            return found

    assert asyncio.run(work()) == 1


def test_what_the_sign_in_side_says_is_kept() -> None:
    happening = Happening("break-glass-start", 0, "a", "app", "Practitioner/1", "Patient/3", "::1", "r", "reason given")
    event = event_of(happening)
    assert (event.who.subject, event.who.client_id, event.who.fhir_user, event.who.purpose) == (
        "a",
        "app",
        "Practitioner/1",
        "BTG",
    )
    assert (event.what.patients, event.what.detail, event.address, event.request_id) == (
        ("3",),
        "reason given",
        "::1",
        "r",
    )
    assert event_of(Happening("sign-in-refused", 4)).what.outcome == 4


@pytest.mark.parametrize(
    ("role", "scopes", "verb", "resource_id", "allowed"),
    [
        ("system", (SYSTEM,), "c", None, True),
        ("system", (Scope("system", "*", "cruds"),), "c", None, True),
        ("system", (SYSTEM,), "c", "sent-by-another", True),
        ("system", (SYSTEM,), "c", "audit-0000000001-0000-00000", False),
        ("system", (Scope("system", "AuditEvent", "rs"),), "c", None, False),
        ("system", (Scope("user", "AuditEvent", "c"),), "c", None, False),
        ("system", (Scope("system", "*", "cruds"),), "u", "x", False),
        ("system", (Scope("system", "*", "cruds"),), "d", "x", False),
        ("practitioner", (Scope("system", "*", "cruds"),), "c", None, False),
        ("auditor", (SYSTEM,), "c", None, False),
        ("operator", (), "c", None, True),
        ("operator", (), "d", "x", False),
        ("practitioner", (), "r", "x", True),
    ],
)
def test_only_systems_add_audit_events_and_nobody_changes_them(
    role: str, scopes: tuple[Scope, ...], verb: Verb, resource_id: str | None, allowed: bool
) -> None:
    identity = Identity("a", "a", role, scopes)  # type: ignore[arg-type]
    assert may_write("AuditEvent", resource_id, verb, identity) is allowed
    assert may_write("Patient", resource_id, verb, identity) is True


def test_a_key_is_made_once_and_only_the_server_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit-key"
    keys = load_or_create_keys(path)
    assert load_or_create_keys(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [name.name for name in path.parent.iterdir()] == ["audit-key"]
    assert len(seal_keys(keys)[0]) == 32


@pytest.mark.parametrize("content", ["", "short\n", "x" * 40 + "\nshort\n", "ü" * 40])
def test_a_key_file_without_a_good_key_is_refused_in_plain_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "audit-key"
    path.write_text(content, "utf-8")
    with pytest.raises(SetupError, match="audit trail"):
        load_or_create_keys(path)
