"""Security labels: what is labelled restricted is hidden, unless the role clears it for the purpose of use.

Spec: https://hl7.org/fhir/R4/security-labels.html
"""

from __future__ import annotations

from fhir_server.model.access import ANY_TYPE, VERBS, Grant, Layer
from fhir_server.policies.reach import Reach
from fhir_server.policies.roles import RoleRules, RoleTable

ANY_PURPOSE = "*"


def label_layer(role: RoleRules, purpose: str, broken: frozenset[str], table: RoleTable, reach: Reach) -> Layer | None:
    """What labels leave to see; None where they hide nothing.

    Args:
        broken: patients for whom the user has broken the glass: no label hides anything of theirs
    """
    cleared = {label for label, purposes in role.clears if ANY_PURPOSE in purposes or purpose in purposes}
    hiding = [coding for label, coding in table.labels.items() if label not in cleared]
    if not hiding:
        return None
    unlabelled = Grant(ANY_TYPE, VERBS, criteria=(("_security:not", ",".join(hiding)),))
    return (unlabelled, *reach.whole(VERBS, broken))
