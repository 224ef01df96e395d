"""`X-Provenance`: an app says with a write where the data comes from, and both are stored together or not at all.

The header holds a Provenance without `target`; the server fills in the versions that the write has made.

Spec: https://hl7.org/fhir/R4/provenance.html#header, https://hl7.org/fhir/R4/http.html#custom
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.answers import named
from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import FhirError, InvalidError, Issue
from fhir_server.model.exchange import Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit

HEADER = "x-provenance"
TYPE = "Provenance"

#: Stands in for a target while the rest is looked at.
ANY = {"reference": "Basic/any"}


@dataclass(frozen=True, slots=True)
class Source:
    """What a request says of where its data comes from: a Provenance that lacks its targets alone."""

    resource: dict[str, Any]

    async def attach(self, context: Context, unit: Unit, outcomes: Sequence[Committed]) -> None:
        """Store the Provenance of what a transaction has written, in that transaction; nothing where nothing was."""
        targets = [{"reference": named(outcome.version)} for outcome in outcomes if outcome.changed]
        if targets:
            change = self._change(targets)
            await context.repository.commit_one_within(unit, context.repository.check(change))

    def _change(self, targets: list[dict[str, str]]) -> Change:
        return Change("POST", TYPE, new_id(), {"resourceType": TYPE, "target": targets, **self.resource}, fresh=True)

    async def prepare(self, context: Context) -> None:
        """Make ready to store it: before the transaction begins.

        Raises:
            InvalidError: 400; what the header holds is not valid.
        """
        try:
            context.repository.check(self._change([ANY]))
        except FhirError as error:
            told = [
                Issue(i.code, f"X-Provenance: {i.diagnostics}", i.expression, i.key, i.severity) for i in error.issues
            ]
            raise type(error)(told) from error
        await context.repository.store.ensure(TYPE)


async def source_in(context: Context, request: Request) -> Source | None:
    """What the header of a request says, ready to be stored; None where there is none.

    Raises:
        InvalidError: 400; it is not one valid Provenance without `target`.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return None
    try:
        # Headers come as Latin-1, JSON is UTF-8.
        resource = codec.decode(text.encode("latin-1"))
    except FhirError as error:
        raise InvalidError(
            f"X-Provenance is no Provenance in JSON: {error}", code="structure", key="HS-PROVENANCE"
        ) from error
    if type(resource) is not dict or resource.get("resourceType") != TYPE:
        raise InvalidError(
            "X-Provenance holds no Provenance: `resourceType` was expected to be 'Provenance'.",
            code="structure",
            key="HS-PROVENANCE",
        )
    if "target" in resource:
        raise InvalidError(
            "The Provenance of X-Provenance has a `target`; the server fills that in, so it must be left out.",
            code="invalid",
            expression="Provenance.target",
            key="HS-PROVENANCE",
        )
    source = Source({name: value for name, value in resource.items() if name not in ("resourceType", "id")})
    await source.prepare(context)
    return source


async def commit(context: Context, request: Request, change: Change) -> Committed:
    """Carry out one change, and store with it what the request says of its source; raises as `Repository.commit`."""
    source = await source_in(context, request)
    if source is None:
        return await context.repository.commit(change)
    checked = context.repository.check(change)
    await context.repository.store.ensure(change.type)

    async def work(unit: Unit) -> Committed:
        outcome = await context.repository.commit_one_within(unit, checked)
        await source.attach(context, unit, [outcome])
        return outcome

    return await context.repository.store.transact(work)


def refuse_source(request: Request, what: str) -> None:
    """Refuse a header that would not be heeded.

    Raises:
        InvalidError: 400; there is one.
    """
    if HEADER in request.headers:
        raise InvalidError(
            f"X-Provenance is not possible with {what}: it says where the data of a create, update, patch, delete or "
            "transaction comes from.",
            code="not-supported",
            key="HS-PROVENANCE-PLACE",
        )
