"""Who reads: all the names by which relations, roles and consents may speak of one user."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fhir_server.model.access import Identity
from fhir_server.policies.relations import NOTHING, Relations, Values
from fhir_server.policies.roles import RoleRules
from fhir_server.policies.walls import tag_of

RELATED = "RelatedPerson/"

#: How many organizations stand above each other.
MOST_ABOVE = 8


@dataclass(frozen=True, slots=True)
class Reader:
    """One user, or a program that acts for itself.

    Attributes:
        values: what stands for the placeholders of the table of roles
        selves: the user's own resource, and the user's active PractitionerRoles
        organizations: the user's organization, those of the user's roles, and those above them
        groups: the care teams and Groups that the user is in
        entrusted: for whom the user's account acts
        identifiers: those of all these, `system|value`, where Consents name anybody so
        purpose: why they read, as the token says, else as it is usual in the role
    """

    identity: Identity
    values: Values
    selves: frozenset[str] = NOTHING
    organizations: frozenset[str] = NOTHING
    groups: frozenset[str] = NOTHING
    entrusted: frozenset[str] = NOTHING
    identifiers: frozenset[str] = NOTHING
    purpose: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All that a Consent may call this reader."""
        return self.selves | self.organizations | self.groups | self.identifiers

    @property
    def maybe(self) -> frozenset[str]:
        """What a Consent may mean by an identifier without a system."""
        return frozenset([f"|{name.partition('|')[2]}" for name in self.identifiers])


async def reader_of(
    identity: Identity, role: RoleRules, relations: Relations, since: float, *, identified: bool
) -> Reader:
    """Look up what is known of somebody; where Consents concern the role, also all that a Consent may call them.

    Args:
        identified: whether Consents call anybody by an identifier
    """
    purpose = identity.purpose or role.purpose
    user, organization = identity.fhir_user, identity.organization
    values: dict[str, tuple[str, ...]] = {}
    if organization is not None:
        values["organization"] = (organization,)
        values["organization-tag"] = ("|".join(tag_of(organization)),)
    selves = NOTHING
    if user is not None:
        selves = await _selves_of(user, relations, since)
        values |= {"user": (user,), "selves": tuple(sorted(selves))}
        if user.startswith(RELATED):  # a Patient may have the same id as somebody else's RelatedPerson
            values["user-id"] = (_id_of(user),)
    entrusted = await _entrusted_to(identity, relations, values, since)
    if entrusted:
        values["entrusted"] = tuple(sorted(entrusted))
    if not role.consents:
        return Reader(identity, values, selves, entrusted=entrusted, purpose=purpose)
    organizations = frozenset({organization} if organization else ())
    if roles := tuple(sorted(_id_of(one) for one in selves if one.startswith("PractitionerRole/"))):
        organizations |= await relations.of("role-organizations", {"own-role-ids": roles}, since)
    organizations = await _with_above(organizations, relations, since)
    groups = await relations.union(("own-teams", "own-groups"), values, since) if selves else NOTHING
    identifiers = NOTHING
    if identified:
        identifiers = await relations.identifiers_of(selves | organizations | groups)
    return Reader(identity, values, selves, organizations, groups, entrusted, identifiers, purpose)


async def _entrusted_to(identity: Identity, relations: Relations, values: Values, since: float) -> frozenset[str]:
    """For whom somebody's account acts.

    Of the patient whom a RelatedPerson names, that resource alone decides: it may have ended. A RelatedPerson who is no
    longer there acts for nobody.
    """
    user = identity.fhir_user
    if not identity.patients or user is None:
        return NOTHING
    if not user.startswith(RELATED):
        return frozenset(identity.patients)
    named = await relations.of("ever-related", values, since)
    return frozenset(identity.patients) - named if named else NOTHING


async def _selves_of(user: str, relations: Relations, since: float) -> frozenset[str]:
    """The user's own resource, and the user's active roles."""
    selves = frozenset({user})
    if user.startswith("PractitionerRole/"):
        selves |= await relations.of("own-practitioner", {"user-id": (_id_of(user),)}, since)
    practitioners = [one for one in sorted(selves) if one.startswith("Practitioner/")]
    roles = await asyncio.gather(*(relations.of("own-roles", {"user": (one,)}, since) for one in practitioners))
    return selves.union(*roles)


async def _with_above(organizations: frozenset[str], relations: Relations, since: float) -> frozenset[str]:
    """Organizations with those that they are part of."""
    known = new = organizations
    for _ in range(MOST_ABOVE):
        if not new:
            break
        ids = tuple(sorted(map(_id_of, new)))
        new = await relations.of("organizations-above", {"organization-ids": ids}, since) - known
        known |= new
    return known


def _id_of(reference: str) -> str:
    return reference.partition("/")[2]
