"""Walls between organizations, and the mark by which staff-only data is told whose it is.

What the staff of an organization make carries its mark, a tag. Notes, messages and tasks of staff that carry the mark
of another organization do not exist for a reader; a resource with the marks of several is shared by them.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.model.access import VERBS, Grant, Identity
from fhir_server.policies.roles import RoleRules

#: The system of the tags; their code is the logical id of the organization.
MARK = "urn:healthsphere:organization"


def tag_of(organization: str) -> tuple[str, str]:
    """The mark of an organization (`Organization/1`)."""
    return MARK, organization.partition("/")[2]


def wall_of(role: RoleRules, identity: Identity) -> Iterator[Grant]:
    """Denials of what other organizations made."""
    if identity.organization is None and role.wall_open:
        return
    criteria: tuple[tuple[str, str], ...] = (("_tag", f"{MARK}|"),)
    if identity.organization is not None:
        criteria += (("_tag:not", "|".join(tag_of(identity.organization))),)
    for name in role.wall:
        yield Grant(name, VERBS, criteria=criteria)


def stamp_of(role: RoleRules, identity: Identity) -> tuple[str, str] | None:
    """What resources that this user makes are marked with."""
    return tag_of(identity.organization) if identity.organization is not None and role.wall else None
