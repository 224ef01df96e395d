"""What a write must satisfy beyond FHIR R4 itself: profiles, and what its data says of itself.

Spec: https://hl7.org/fhir/R4/http.html#update (422: the resource violated applicable profiles or business rules)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.model.access import Caller
from fhir_server.model.errors import InvalidError, Issue, UnprocessableError
from fhir_server.validation.policy import Demand, Level, Policy
from fhir_server.validation.profile.validator import ProfileValidator

Json = dict[str, Any]

#: What R4 itself says and a policy may let pass: invariants and codes, not the structure, without which nothing can be
#: indexed.
_SOFT = frozenset({"HS-VAL-INVARIANT", "HS-VAL-BINDING"})

#: Profiles that were looked up so long ago are looked up again.
_AT_MOST_S = 1.0


@dataclass(frozen=True, slots=True)
class Conformance:
    """Holds writes to a policy."""

    policy: Policy
    profiles: ProfileValidator

    def softened(self, issues: list[Issue], resource_type: str, caller: Caller) -> list[Issue]:
        """What R4 itself says, as strictly as the policy says."""
        if not issues or self._demand(resource_type, caller).base == "refuse":
            return issues
        return [warned(issue) if issue.key in _SOFT else issue for issue in issues]

    def looks_at(self, resource_type: str, caller: Caller) -> bool:
        """Whether anything of a write is to be looked at."""
        return self._demand(resource_type, caller).is_of_profiles

    async def issues_of(self, resource: Json, caller: Caller) -> list[Issue]:
        """What is told of a write that is let pass.

        Raises:
            UnprocessableError: 422; it does not satisfy what it must.
        """
        demand = self._demand(resource["resourceType"], caller)
        found = [
            *_held_to("refuse", await self._against(resource, demand.required)),
            *_held_to("warn", await self._against(resource, demand.recommended)),
            *await self._claimed(resource, demand),
        ]
        if demand.contents != "ignore":
            issues = await self.profiles.contents_of(resource, at_most_s=_AT_MOST_S)
            found += _held_to(demand.contents, issues)
        await asyncio.sleep(0)  # thousands may follow each other in a transaction
        if any(issue.severity == "error" for issue in found):
            raise UnprocessableError(dict.fromkeys(found))
        return list(dict.fromkeys(issue for issue in found if issue.severity == "warning"))

    def _demand(self, resource_type: str, caller: Caller) -> Demand:
        return self.policy.of(resource_type, caller.identity.client_id)

    async def _against(self, resource: Json, canonicals: Sequence[str]) -> list[Issue]:
        if not canonicals:
            return []
        try:
            return await self.profiles.issues_against(resource, canonicals, at_most_s=_AT_MOST_S)
        except InvalidError as error:  # what cannot be looked at is not satisfied
            text = f"This server demands a profile of every {resource['resourceType']}. {error.issues[0].diagnostics}"
            return [Issue("not-supported", text, resource["resourceType"], "HS-PROFILE-DEMANDED")]

    async def _claimed(self, resource: Json, demand: Demand) -> list[Issue]:
        if demand.claimed == demand.unknown == "ignore":
            return []
        issues = await self.profiles.issues_of_claims(resource, at_most_s=_AT_MOST_S)
        unknown = [issue for issue in issues if issue.key == "HS-PROFILE-UNKNOWN"]
        broken = [issue for issue in issues if issue.key != "HS-PROFILE-UNKNOWN"]
        strict = [replace(issue, severity="error") for issue in unknown]
        return [*_held_to(demand.claimed, broken), *_held_to(demand.unknown, strict)]


def _held_to(level: Level, issues: Iterable[Issue]) -> list[Issue]:
    if level == "ignore":
        return []
    return [warned(issue) if level == "warn" else issue for issue in issues]


def warned(issue: Issue) -> Issue:
    """The same as a warning, where it is an error."""
    return replace(issue, severity="warning") if issue.severity in ("error", "fatal") else issue
