"""The whole document, and its bytes, which are made once for each set of search parameters in force."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fhir_server.http.openapi import contents, interactions, operations, parameters, schemas
from fhir_server.interactions.registration import Interaction, Operation
from fhir_server.model import codec
from fhir_server.repository.search import COMMON
from fhir_server.version import VERSION
from profiles.registry import Registry
from profiles.terminology import terminology

Json = dict[str, Any]

OPENAPI = "3.1.1"
ABOUT = (
    "FHIR R4 (4.0.1). Every resource type has the same interactions, its own search parameters and its own form. "
    "Search parameters take modifiers (`name:exact`), references chains (`subject:Patient.name`), and `_has:` asks the "
    "other way round; the CapabilityStatement at `metadata` says the same as this document in FHIR's own words."
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The document as it is sent."""

    plain: bytes
    packed: bytes
    tag: str


class Described:
    """The document of one server, made when it is first asked for, and again when search parameters have changed."""

    def __init__(
        self,
        registry: Registry,
        table: tuple[Interaction, ...],
        operations: tuple[Operation, ...],
        base_url: str,
        *,
        needs_token: bool,
    ) -> None:
        self._registry = registry
        self._table = table
        self._operations = operations
        self._base_url = base_url
        self._needs_token = needs_token
        self._made: tuple[int, Encoded] | None = None
        self._turn = asyncio.Lock()

    async def encoded(self) -> Encoded:
        """The document in force."""
        async with self._turn:
            revision = self._registry.revision
            if self._made is None or self._made[0] != revision:
                self._made = (revision, await asyncio.to_thread(self._encode))
            return self._made[1]

    def _encode(self) -> Encoded:
        plain = codec.encode(
            describe(self._registry, self._table, self._operations, self._base_url, needs_token=self._needs_token)
        )
        return Encoded(plain, gzip.compress(plain, 6, mtime=0), sha256(plain).hexdigest()[:24])


def describe(
    registry: Registry,
    table: tuple[Interaction, ...],
    known: tuple[Operation, ...],
    base_url: str,
    *,
    needs_token: bool,
    types: tuple[str, ...] = (),
) -> Json:
    """The document; of all resource types, or of some."""
    types = types or registry.resource_types
    criteria: dict[str, Json] = {}
    for name in (COMMON, *types):
        criteria = {**parameters.criteria_of(name, registry), **criteria}
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "HealthSphere",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "externalDocs": {"description": "The specification", "url": "https://hl7.org/fhir/R4/http.html"},
        "servers": [{"url": base_url}],
        "security": [{"token": []}] if needs_token else [],
        "tags": [{"name": interactions.SYSTEM}, {"name": operations.ANY}, *map(_tag, types)],
        "paths": {
            **interactions.paths_of(table, registry, types),
            **operations.paths_of(known, registry, types, base_url),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "headers": contents.headers(),
            "parameters": {
                **parameters.shared_parameters(),
                "type": parameters.type_parameter(registry),
                **criteria,
            },
            "schemas": {
                **schemas.schemas_of(registry, terminology()),
                **parameters.criterion_schemas(),
                **contents.format_schemas(),
            },
            "requestBodies": contents.bodies_of(registry),
            "responses": contents.responses_of(registry),
        },
    }


def _tag(resource_type: str) -> Json:
    return {"name": resource_type, "externalDocs": {"url": f"https://hl7.org/fhir/R4/{resource_type.lower()}.html"}}
