"""What one row of the table of interactions says.

Spec: https://hl7.org/fhir/R4/http.html#3.1.0
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fhir_server.model.access import Verb
from fhir_server.model.exchange import Answer, Request

if TYPE_CHECKING:
    from fhir_server.interactions.context import Context

Handler = Callable[["Context", Request], Awaitable[Answer]]

#: Creates a resource in a way of its own, or says by None that the usual way is right.
Creating = Callable[["Context", Request, dict[str, Any]], Awaitable[Answer | None]]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One interaction and where it is found.

    Attributes:
        method: the HTTP method; GET includes HEAD
        shape: the address below the base, with `{type}`, `{id}`, `{vid}`, `{member}` for its variable parts
        handle: what is done
        code: the interaction's code in a CapabilityStatement, None where that has another element for it
        level: which part of `CapabilityStatement.rest` lists it
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    shape: str
    handle: Handler
    code: str | None = None
    level: Literal["resource", "system"] = "resource"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation and where it can be called.

    Attributes:
        code: its name, without the `$`
        definition: the canonical URL of its OperationDefinition
        handle: what is done
        types: the resource types that it is for; empty for all
        system, type, instance: the levels at which it can be called
        affects_state: whether it changes anything, so that GET is not possible
        elevated: whether it reaches beyond what its caller may see, so that it needs a permission of its own
            (`AccessPolicy.operations`) and then runs unguarded
        touches: whether it reads or changes resources of the type in its address
        needs: what the token's scopes must cover, each a type and a verb; where nothing is said, the type in the
            address (see `permission.require_scope`)
    """

    code: str
    definition: str
    handle: Handler
    types: tuple[str, ...] = ()
    system: bool = False
    type: bool = False
    instance: bool = False
    affects_state: bool = False
    elevated: bool = False
    touches: bool = True
    needs: tuple[tuple[str, Verb], ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return ("POST",) if self.affects_state else ("GET", "POST")

    def is_at(self, path: tuple[str, ...]) -> bool:
        """Whether a path, whose last part is `$code`, calls this operation."""
        level = (self.system, self.type, self.instance)[len(path) - 1] if len(path) <= 3 else False
        return level and path[-1] == f"${self.code}" and (len(path) == 1 or not self.types or path[0] in self.types)
