"""What people have allowed to apps, for their account page: fills the port `ConnectedApps`.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html#metadata (`management_endpoint`)
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from smart_auth.authorization_server import AuthorizationServer
from smart_auth.ports import ConnectedApp


class GrantedApps:
    """Looks at the authorizations.

    Accounts are built before the authorization server, which needs them: `server` is set as soon as there is one.
    """

    server: AuthorizationServer

    async def of(self, account_id: str) -> list[ConnectedApp]:
        return await run_in_threadpool(self._of, account_id)

    def _of(self, account_id: str) -> list[ConnectedApp]:
        names: dict[str, str] = {}
        found = []
        for grant in self.server.authorizations.of(account_id=account_id):
            if grant.client_id not in names:
                client = self.server.clients.get(grant.client_id)
                names[grant.client_id] = client.name if client is not None else grant.client_id
            found.append(
                ConnectedApp(grant.id, names[grant.client_id], grant.scope, grant.created_at, grant.last_used_at)
            )
        return found

    async def revoke(self, account_id: str, grant_id: str) -> None:
        """End one of this account's authorizations; another account's is left alone."""
        await run_in_threadpool(self._revoke, account_id, grant_id)

    def _revoke(self, account_id: str, grant_id: str) -> None:
        grant = self.server.authorizations.get(grant_id)
        if grant is not None and grant.account_id == account_id:
            self.server.authorizations.revoke(grant_id)
