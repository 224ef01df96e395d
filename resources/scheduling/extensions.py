"""Extensions: the names of this part's own, and reading them.

`docs/operations-scheduling.md` has the table of them.

Spec: https://hl7.org/fhir/R4/extensibility.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

OWN: Final = "urn:healthsphere:StructureDefinition"

#: Of a Schedule: when there is time, and for what.
AVAILABILITY: Final = f"{OWN}:availability"
#: Of an Appointment: until when what it holds is held.
HELD_UNTIL: Final = f"{OWN}:held-until"
#: Of an Appointment: a Schedule whose time it takes.
SCHEDULE: Final = f"{OWN}:schedule"
#: Of an Appointment: another time that is offered, and held.
ALTERNATIVE: Final = f"{OWN}:alternative"
#: Of an Appointment: how often times were offered and answered with others.
ROUND: Final = f"{OWN}:negotiation-round"
#: Of an Appointment: the series that it is one of.
SERIES: Final = f"{OWN}:series"
#: Of an Appointment on the waitlist: when a time was last offered.
OFFERED: Final = f"{OWN}:waitlist-offered"
#: What the server says of an Appointment, and patients do not.
SERVERS_OWN: Final = (HELD_UNTIL, ALTERNATIVE, ROUND, SERIES, OFFERED)

#: Of an OperationOutcome: an Appointment that is still possible.
STILL_FREE: Final = f"{OWN}:still-free"

#: The zone of a Schedule or of whom it is for. HL7 defines it beside FHIR; R4 itself does not have it.
#: Spec: https://hl7.org/fhir/extensions/StructureDefinition-timezone.html
TIMEZONE: Final = "http://hl7.org/fhir/StructureDefinition/timezone"

#: Marks Slots that follow their Appointment.
TAG_SYSTEM: Final = "urn:healthsphere:scheduling"
FOLLOWS: Final = "follows-appointment"


def extensions(element: Json, url: str) -> Iterator[Json]:
    """The extensions of an element with a URL."""
    found = element.get("extension")
    for one in found if type(found) is list else ():
        if type(one) is dict and one.get("url") == url:
            yield one


def value_of(extension: Json) -> Any:
    """The value of an extension, whatever its type; None of one that has others inside."""
    return next((value for name, value in extension.items() if name.startswith("value")), None)


def value(element: Json, url: str) -> Any:
    """The value of an element's first extension with a URL."""
    return next((value_of(one) for one in extensions(element, url)), None)


def reference(element: Json, url: str) -> str:
    """The reference that the first extension with a URL has; empty where there is none."""
    found = value(element, url)
    return str(found.get("reference", "")) if type(found) is dict else ""


def without(element: Json, *urls: str) -> Json:
    """The element without extensions of some URLs; itself where it has none."""
    found = element.get("extension")
    if type(found) is not list or not any(type(one) is dict and one.get("url") in urls for one in found):
        return element
    left = [one for one in found if not (type(one) is dict and one.get("url") in urls)]
    rest = {name: value for name, value in element.items() if name != "extension"}
    return {**rest, "extension": left} if left else rest


def with_extension(element: Json, *added: Json) -> Json:
    """The element with further extensions."""
    return {**element, "extension": [*element.get("extension", ()), *added]}


def follows_appointment(slot: Json) -> bool:
    """Whether a Slot is one that this server keeps with an Appointment."""
    tags = slot.get("meta", {}).get("tag", ())
    return any(tag.get("system") == TAG_SYSTEM and tag.get("code") == FOLLOWS for tag in tags)
