"""User info: who the user is, for an app with their access token.

Spec: https://openid.net/specs/openid-connect-core-1_0.html#UserInfo
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.access import Identity
from smart_auth import scopes
from smart_auth.id_token import about
from smart_auth.ports import Sessions


async def userinfo_of(identity: Identity, sessions: Sessions, issuer: str) -> dict[str, Any] | None:
    """What the scopes of the token let the app know; None when it was not granted `openid`, or stands for nobody."""
    if not scopes.has(identity.scope, scopes.OPENID):
        return None
    account = await sessions.account(identity.subject)
    if account is None or account.state != "active":
        return None
    return {"sub": account.id, **about(account, identity.scope, issuer)}
