"""Follows conversations: each new version of a message is told to those who take part."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed
from fhir_server.model import codec
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of
from resources.communication.words import has_tag, is_header, participants_of, reference_of, references, thread_of
from resources.notification.outbox import ping, prepare, write_within

#: Of several messages of a thread within this time one is told outside of this server.
ONE_LETTER_US = 600_000_000


async def tell_of_messages(context: Context, changes: Sequence[Changed]) -> None:
    """Told again, it is told once: the version is the key."""
    await prepare(context.repository.store)
    for changed in changes:
        if changed.body is None:
            continue
        found = codec.decode(changed.body)
        thread = thread_of(found)
        if thread is None and not is_header(found):
            continue
        if not (has_tag(found, "message") or has_tag(found, "header")):
            continue
        focus, store = f"Communication/{changed.id}", context.repository.store
        key = f"{focus}/{changed.version}"
        sender = reference_of(found.get("sender"))
        if thread is None:
            for person in await people_of(store, participants_of(found)):
                await ping(context, person, "thread", focus, key=key)
            continue
        new = changed.version == 1
        for person in await people_of(store, {*references(found.get("recipient")), sender} - {""}):
            await ping(context, person, "message" if new else "message-changed", focus, key=key)
            if new and person != sender:
                await _write(context, person, thread, f"{thread}/{changed.at_us // ONE_LETTER_US}")


async def _write(context: Context, person: str, thread: str, key: str) -> None:
    async def work(unit: Unit) -> None:
        await write_within(context, unit, person, "message", thread, key=key)

    await context.repository.store.transact(work)
