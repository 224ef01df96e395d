"""The words of conversations: codes of this server's own, and what a Communication is in them.

A thread is a Communication without payload and without `partOf`: its header, which has a tag. Its recipients take part;
while it is `in-progress` it is open. A message is a Communication that is part of another.

Spec: https://hl7.org/fhir/R4/communication.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

#: Tags that the server gives: `header`, `message`, and on a message `hidden` and `reported`.
TAGS = "urn:healthsphere:thread"
ORGANIZATION = "urn:healthsphere:organization"

#: When a message was last edited, and by what a retracted one was replaced.
EDITED = "urn:healthsphere:extension:edited"

RETRACTED_TEXT = "This message was taken back by who wrote it."
HIDDEN_TEXT = "A message that stood here was hidden by a moderator."

#: Whose word about themselves is not believed: the token says who they are.
PERSONS = frozenset({"patient", "proxy", "practitioner", "pharmacy", "front-desk", "administrator", "auditor"})

MOST_PARTICIPANTS = 100

#: Control characters, and those that turn the direction of text around so that it reads as something else; line ends
#: and tabs are text.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


def cleaned(text: str) -> str:
    """A text without control characters; a carriage return is a line end."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def thread_of(resource: Json) -> str | None:
    """The header that a Communication says it is part of, as a reference; None where it is no message."""
    for reference in references(resource.get("partOf")):
        if reference.startswith("Communication/") and reference.count("/") == 1:
            return reference
    return None


def is_header(resource: Json) -> bool:
    """Whether a stored Communication is the header of a thread."""
    return has_tag(resource, "header") and looks_like_header(resource)


def looks_like_header(resource: Json) -> bool:
    """Whether a Communication has no payload, is part of nothing, and for somebody."""
    return "payload" not in resource and "partOf" not in resource and bool(resource.get("recipient"))


def participants_of(header: Json) -> frozenset[str]:
    """Who takes part in a thread, with who began it."""
    owner = reference_of(header.get("sender"))
    return frozenset(references(header.get("recipient"))) | ({owner} if owner else set())


def references(found: Any) -> list[str]:
    """The references of an element that repeats."""
    rows = found if type(found) is list else []
    return [reference for row in rows if (reference := reference_of(row))]


def reference_of(found: Any) -> str:
    """A reference to a resource of this server; empty where there is none."""
    text = found.get("reference", "") if type(found) is dict else ""
    return text if type(text) is str and text.count("/") == 1 and ":" not in text else ""


def pointing(names: Iterable[str]) -> list[Json]:
    return [{"reference": name} for name in names]


def has_tag(resource: Json, code: str) -> bool:
    return any(tag.get("system") == TAGS and tag.get("code") == code for tag in tags_of(resource))


def tags_of(resource: Json) -> list[Json]:
    found = resource.get("meta", {}).get("tag", [])
    return [tag for tag in found if type(tag) is dict]


def with_tags(resource: Json, wanted: frozenset[str]) -> Json:
    """The resource with these tags of conversations and no others, and without the mark of an organization: who takes
    part decides who sees it, not for whom they work."""
    others = [tag for tag in tags_of(resource) if tag.get("system") not in (TAGS, ORGANIZATION)]
    tags = [*others, *({"system": TAGS, "code": code} for code in sorted(wanted))]
    if tags == resource.get("meta", {}).get("tag", []):
        return resource
    return {**resource, "meta": {**resource.get("meta", {}), "tag": tags}}


def text_of(resource: Json) -> str:
    """All that a message says in words."""
    rows = resource.get("payload", [])
    return "\n".join(row["contentString"] for row in rows if type(row.get("contentString")) is str)
