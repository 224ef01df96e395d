"""What one row of the table of interactions says.

Spec: https://hl7.org/fhir/R4/http.html#3.1.0
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fhir_server.model.exchange import Answer, Request

if TYPE_CHECKING:
    from fhir_server.interactions.context import Context

Handler = Callable[["Context", Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One interaction and where it is found.

    Attributes:
        method: the HTTP method; GET includes HEAD
        shape: the address below the base, with `{type}`, `{id}`, `{vid}` for its variable parts
        handle: what is done
        code: the interaction's code in a CapabilityStatement, None where that has another element for it
        level: which part of `CapabilityStatement.rest` lists it
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    shape: str
    handle: Handler
    code: str | None = None
    level: Literal["resource", "system"] = "resource"
