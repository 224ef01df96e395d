"""Big code systems that are stored as resources: a follower of the feed sees them, a job makes rows of their concepts.

Spec: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.run import Run
from fhir_server.model import codec
from fhir_server.model.errors import GoneError, NotFoundError, UnprocessableError
from fhir_server.storage.document import Version
from fhir_server.terminology.big import READY, BigHoldings
from fhir_server.terminology.big_build import Builder, Lineage, Origin, TooDeepError, discard, rows_of, sweep
from fhir_server.terminology.concepts import Concept, concepts_of
from fhir_server.terminology.memory import about_of
from fhir_server.terminology.system import About
from fhir_server.validation.profile.source import BIG_BYTES, CODE_SYSTEMS

Json = dict[str, Any]

KIND = "code-system"


def follower(context: Context) -> Follower:
    """What is told of each CodeSystem that is written; those that were there before it is told of as well."""
    return Follower("terminology", frozenset({CODE_SYSTEMS}), partial(follow, context), from_start=True)


async def follow(context: Context, changes: Sequence[Changed]) -> None:
    """Have big ones built, and take out of force what is no longer big, or deleted."""
    big = context.terminology.big
    assert big is not None, "`app` has given the engine its big code systems"
    latest = {changed.id: changed for changed in changes}
    for changed in latest.values():
        name = f"{CODE_SYSTEMS}/{changed.id}"
        if changed.body is not None and len(changed.body) >= BIG_BYTES:
            await context.jobs.start(KIND, name, {"id": changed.id})
            continue
        await drop(big, name, before_us=changed.at_us)


async def carry_on(context: Context, run: Run) -> None:
    """The work of a job: build the version of a CodeSystem that is current, or go on with it."""
    big = context.terminology.big
    assert big is not None
    try:
        version = await context.repository.read(CODE_SYSTEMS, run.wanted["id"])
    except (NotFoundError, GoneError):  # the follower is told of that as well
        return
    body = version.body or b""
    if len(body) < BIG_BYTES:
        return
    origin = Origin(f"{CODE_SYSTEMS}/{version.id}", version.moment_us)
    if await big.systems.all({"o": origin.name, "ot": {"$gte": version.moment_us}, "state": READY}):
        return  # another job was first
    about, concepts, below = await asyncio.to_thread(read, body)
    goes_on = run.kept.get("written_us") == version.moment_us
    builder = Builder(big, about, origin, run.kept["token"] if goes_on else "")
    await builder.begin()
    done = run.kept.get("done", 0) if goes_on else 0
    named = {"token": builder.token, "written_us": version.moment_us}
    await run.tell(done, len(concepts), "reading concepts", named)
    known = {concept.code: concept.parents for concept in concepts}
    rows = rows_of(builder.token, concepts, Lineage(known, known.__contains__), below)

    async def tell(count: int) -> None:
        await run.tell(count, len(concepts), "writing concepts", {**named, "done": count})

    try:
        count = await builder.write(rows, tell, done)
    except TooDeepError as error:
        await builder.fail()
        raise UnprocessableError(f"{origin.name} cannot be built: {error}.", key="HS-TERM-HIERARCHY") from None
    await builder.finish(count, (str(one.get("code")) for concept in concepts for one in concept.properties))
    await sweep(big)
    if not await _stands(context, version):  # it went while it was being built
        await discard(big, builder.token)


async def _stands(context: Context, built: Version) -> bool:
    """Whether what was built is of a resource that is still there, still big, and not another one of the same id."""
    store = context.repository.store
    now = await store.get(CODE_SYSTEMS, built.id)
    if now is None or now.body is None or len(now.body) < BIG_BYTES:
        return False
    if now.token == built.token:
        return True
    before = await store.past(CODE_SYSTEMS, built.id, built.version)
    return before is not None and before.token == built.token


async def drop(big: BigHoldings, name: str, *, before_us: int | None = None) -> None:
    """Take out of force what was built of a resource: all of it, or what was written before a moment."""
    # Rows of earlier releases know no moment: they are older than any.
    older = {} if before_us is None else {"ot": {"$not": {"$gte": before_us}}}
    for row in await big.systems.all({"o": name, **older}):
        await discard(big, row["_id"])


def read(body: bytes) -> tuple[About, list[Concept], frozenset[str]]:
    """A CodeSystem with its concepts, each once, and the codes that have something below them."""
    resource: Json = codec.decode(body)
    by_code: dict[str, Concept] = {}
    narrower: list[tuple[str, str]] = []
    for concept, below in concepts_of(resource):
        if by_code.setdefault(concept.code, concept) is concept:
            concept.number = len(by_code) - 1
            narrower += [(concept.code, code) for code in below]
    for above, code in narrower:
        if code in by_code and above not in by_code[code].parents:
            by_code[code].parents = (*by_code[code].parents, above)
    return about_of(resource), list(by_code.values()), below_of(by_code)


def below_of(concepts: dict[str, Concept]) -> frozenset[str]:
    return frozenset(parent for concept in concepts.values() for parent in concept.parents if parent in concepts)
