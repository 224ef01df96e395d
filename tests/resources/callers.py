"""Callers by their role, with the policies that the server itself would make for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from fhir_server.model.access import Caller, Identity, Scope
from fhir_server.model.errors import UnauthorizedError
from fhir_server.policies.glass import BreakGlass
from fhir_server.policies.policies import Policies
from fhir_server.policies.roles import load_roles
from profiles.registry import registry
from profiles.terminology import terminology
from tests.conftest import BASE_URL, InProcessServer

EVERYTHING = (Scope("user", "*", "cruds"),)


class _Unheard:
    async def glass_broken(self, glass: Any) -> None: ...
    async def glass_mended(self, glass: Any) -> None: ...


@dataclass
class Roles:
    """A gate that knows its callers by name: `Authorization: Bearer <name>`."""

    known: dict[str, Identity] = field(default_factory=dict)
    policies: Policies | None = None
    server: InProcessServer | None = None

    def add(self, name: str, role: Any, user: str | None = None, **more: Any) -> None:
        self.known[name] = Identity(name, "test-app", role, **{"scopes": EVERYTHING, "fhir_user": user, **more})

    async def caller_of(self, authorization: str | None) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name not in self.known:
            raise UnauthorizedError("unknown")
        identity = self.known[name]
        policies = await self._policies()
        policies.noticed("Consent", "")
        policies.noticed("Patient", identity.subject)
        return Caller(identity, await policies.of(identity))

    def noticed(self, types: Iterable[str], subject: str) -> None:
        """Everything is asked anew each time."""

    async def _policies(self) -> Policies:
        if self.policies is None:
            assert self.server is not None
            context = self.server.context

            async def create(_: dict[str, Any]) -> str:
                raise AssertionError("nobody breaks a glass here")

            store = context.repository.store
            glass = BreakGlass(store, create, _Unheard(), most_minutes=60)
            self.policies = Policies(
                store,
                context.searcher,
                registry(),
                terminology(),
                load_roles(registry()),
                glass,
                base_url=BASE_URL,
                base_permits=True,
            )
            await self.policies.open()
        return self.policies

    def twin(self) -> Roles:
        """The same callers for another server: policies belong to one event loop."""
        return Roles(self.known)

    def as_(self, name: str, server: InProcessServer | None = None) -> httpx.Client:
        """A client of the server in the name of a caller."""
        server = server or self.server
        assert server is not None
        return httpx.Client(
            transport=server.client._transport,
            base_url=server.base_url,
            headers={"Authorization": f"Bearer {name}", "Accept": "*/*"},
        )
