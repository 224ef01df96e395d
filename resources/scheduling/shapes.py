"""Whether JSON has the shape that the rules of this part count on.

Rules see a new resource before the validation does. What has another shape they let pass: it is refused right after.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_REFERENCE = {"reference": ""}
_CONCEPT = {"coding": [{"system": "", "code": ""}]}

#: What is looked at of each type: a list stands for any number of its one element, a text for any text.
SHAPES: dict[str, Any] = {
    "Appointment": {
        "status": "",
        "start": "",
        "end": "",
        "participant": [{"actor": _REFERENCE, "status": ""}],
        "slot": [_REFERENCE],
        "serviceType": [_CONCEPT],
    },
    "AppointmentResponse": {"actor": _REFERENCE, "appointment": _REFERENCE, "participantStatus": ""},
    "Schedule": {"actor": [_REFERENCE], "serviceType": [_CONCEPT]},
}


def shaped(resource: Json) -> bool:
    """Whether a resource has the shape that its type has, as far as it is looked at here."""
    return fits(SHAPES.get(str(resource.get("resourceType")), {}), resource) and nested(resource.get("extension", []))


def nested(found: Any) -> bool:
    """Whether these are extensions, and those inside them."""
    return type(found) is list and all(
        type(one) is dict and type(one.get("url", "")) is str and nested(one.get("extension", [])) for one in found
    )


def fits(shape: Any, value: Any) -> bool:
    """Whether a value has a shape; members that the shape does not name may be anything, and any may be missing."""
    if type(shape) is not type(value):
        return False
    if type(shape) is dict:
        return all(fits(inner, value[name]) for name, inner in shape.items() if name in value)
    if type(shape) is list:
        return all(fits(shape[0], one) for one in value)
    return True
