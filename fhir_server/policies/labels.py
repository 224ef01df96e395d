"""Security labels: what is labelled restricted is hidden, unless the role clears it for the purpose of use.

Spec: https://hl7.org/fhir/R4/security-labels.html
"""

from __future__ import annotations

from fhir_server.model.access import ANY_TYPE, VERBS, Grant, Layer
from fhir_server.policies.reach import Reach
from fhir_server.policies.roles import ANY_PURPOSE, RoleRules, RoleTable


def label_layer(
    role: RoleRules,
    purpose: str,
    broken: frozenset[str],
    table: RoleTable,
    reach: Reach,
    others: RoleRules | None = None,
    own: frozenset[str] = frozenset(),
) -> Layer | None:
    """What labels leave to see; None where they hide nothing.

    Args:
        broken: patients for whom the user has broken the glass: no label hides anything of theirs
        others: the role that decides of all but what is the user's own, where that is another one
        own: whose records the first role decides of then
    """
    hiding = _hiding(role, purpose, table)
    wide = hiding if others is None else _hiding(others, purpose, table)
    if not wide:
        return None
    unlabelled = Grant(ANY_TYPE, VERBS, criteria=(("_security:not", ",".join(wide)),))
    if others is None:
        return (unlabelled, *reach.whole(VERBS, broken))
    criteria = (("_security:not", ",".join(hiding)),) if hiding else ()
    return (unlabelled, *reach.whole(VERBS, own, criteria), *reach.whole(VERBS, broken))


def _hiding(role: RoleRules, purpose: str, table: RoleTable) -> list[str]:
    """The labels that hide something from a role."""
    cleared = {label for label, purposes in role.clears if ANY_PURPOSE in purposes or purpose in purposes}
    return [coding for label, coding in table.labels.items() if label not in cleared]
