"""Reading CodeableConcepts of resources that nobody has validated yet, as rules must."""

from __future__ import annotations

from typing import Any


def codings_of(concept: Any) -> list[dict[str, Any]]:
    """The codings of a CodeableConcept, whatever shape it was sent in."""
    rows = concept.get("coding") if type(concept) is dict else None
    return [row for row in rows if type(row) is dict] if type(rows) is list else []
