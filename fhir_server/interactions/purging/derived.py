"""What was made of resources that are removed for good, and goes with them.

Writes and deletions are told by the feed; a removal leaves nothing that could tell of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.interactions.context import Context
from fhir_server.interactions.terms import building
from fhir_server.repository.definitions import TYPE as SEARCH_PARAMETERS
from fhir_server.validation.profile.source import CODE_SYSTEMS


async def forget_derived(context: Context, resource_type: str, ids: Sequence[str]) -> None:
    """Take out of force what was made of some resources that were removed; nothing happens the second time."""
    if resource_type == SEARCH_PARAMETERS:
        await context.definitions.removed()
    if resource_type == CODE_SYSTEMS and context.terminology.big is not None:
        for resource_id in ids:
            await building.drop(context.terminology.big, f"{CODE_SYSTEMS}/{resource_id}")
