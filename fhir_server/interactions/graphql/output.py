"""The answer as it grows: objects whose fields may come from several places, as @flatten makes them.

Spec: http://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphql.language import FieldNode

from fhir_server.interactions.graphql.fault import Path, refused


@dataclass(slots=True)
class Slot:
    """The values of one field of the answer so far, and whether they are to be a list."""

    many: bool
    values: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Output:
    """One object of the answer."""

    slots: dict[str, Slot] = field(default_factory=dict)

    def add(self, key: str, values: list[Any], *, many: bool) -> None:
        slot = self.slots.setdefault(key, Slot(many))
        slot.values += values

    def single(self, key: str, values: list[Any], node: FieldNode, path: Path) -> None:
        """Add to a field that @singleton allows one value."""
        slot = self.slots.setdefault(key, Slot(many=False))
        slot.values += values
        if len(slot.values) > 1:
            raise refused(
                f"@singleton allows {key!r} one value; there are {len(slot.values)}.",
                node,
                (*path, key),
                key="HS-GRAPHQL-SINGLETON",
            )

    def document(self) -> dict[str, Any]:
        """The object as JSON; a field without values is not there."""
        return {
            key: slot.values if slot.many or len(slot.values) > 1 else slot.values[0]
            for key, slot in self.slots.items()
            if slot.values
        }
