"""The codes of this part, and the small resources that it makes: tags, tasks."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.clock import instant_of, now_us
from fhir_server.storage.quarantine import Mark

Json = dict[str, Any]

TYPE: Final = "DocumentReference"

#: Tags of this system say what is known of a document's content.
SCAN: Final = "urn:healthsphere:scan"

#: Codes of the tasks that this part makes.
TASK: Final = "urn:healthsphere:task"
REVIEW: Final = "review-document"
QUARANTINED: Final = "decide-quarantine"
NOTICE: Final = "document-refused"

ROLE: Final = "urn:healthsphere:role"

DISPLAYS: Final[dict[str, str]] = {
    "waiting": "In quarantine until it was examined",
    "clean": "A virus scanner found nothing",
    "not-scanned": "Nobody looked for viruses",
    "infected": "A virus was found",
    "active-content": "It does things by itself when it is opened",
    "unscannable": "The virus scanner could not look at all of it",
    "issued": "Made by this server",
    "released": "Let go by decision, in spite of what was found",
}


def with_mark(resource: Json, mark: Mark) -> Json:
    """The resource with the tag of a mark in place of another one; itself where it has that."""
    return with_tags(resource, [{"system": SCAN, "code": mark, "display": DISPLAYS[mark]}])


def with_tags(resource: Json, scans: list[Json]) -> Json:
    """The resource with these tags of the scan, and no others."""
    meta = resource.get("meta", {})
    tags = meta.get("tag", []) if isinstance(meta, dict) else None
    if not isinstance(tags, list):
        return resource  # not valid, which is told elsewhere
    if [tag for tag in tags if is_mark(tag)] == scans:
        return resource
    kept = [tag for tag in tags if not is_mark(tag)]
    rest = {name: value for name, value in meta.items() if name != "tag"}
    told = {**rest, **({"tag": [*kept, *scans]} if kept or scans else {})}
    without = {name: value for name, value in resource.items() if name != "meta"}
    return {"resourceType": resource["resourceType"], **({"meta": told} if told else {}), **without}


def is_mark(tag: Any) -> bool:
    return isinstance(tag, dict) and tag.get("system") == SCAN


def marks_of(resource: Json | None) -> list[Json]:
    """The tags of the scan that a resource has."""
    meta = (resource or {}).get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return [tag for tag in tags if is_mark(tag)] if isinstance(tags, list) else []


def mark_in(resource: Json | None) -> str | None:
    return next((str(tag.get("code")) for tag in marks_of(resource)), None)


def review_of(document: Json, document_id: str, owner: str | None, requester: str | None) -> Json:
    """The task of who looks at a document that somebody sent."""
    return _task(REVIEW, "Look at a document", document, document_id) | {
        "status": "requested",
        **({"owner": {"reference": owner}} if owner else {"performerType": [_performer("practitioner")]}),
        **({"requester": {"reference": requester}} if requester else {}),
    }


def decision_on(document: Json, document_id: str, mark: str, detail: str) -> Json:
    """The task of who decides what becomes of a content in quarantine.

    As with broken glasses it is `for` nobody, so that it makes nobody somebody's patient.
    """
    return {
        **_task(QUARANTINED, "Decide on a document in quarantine", {}, document_id),
        "status": "requested",
        "priority": "urgent",
        "description": f"{DISPLAYS.get(mark, mark)}. {detail}".strip(),
        "performerType": [_performer("auditor")],
    }


def notice_of(document: Json, document_id: str, owner: str, mark: str) -> Json:
    """Tells who sent a document that it is withheld."""
    return _task(NOTICE, "A document is withheld", document, document_id) | {
        "status": "requested",
        "owner": {"reference": owner},
        "description": f"{DISPLAYS.get(mark, mark)}. Nobody can open this document; send it anew if it is harmless.",
    }


def _task(code: str, text: str, document: Json, document_id: str) -> Json:
    subject = document.get("subject", {}).get("reference")
    return {
        "resourceType": "Task",
        "intent": "order",
        "code": {"coding": [{"system": TASK, "code": code}], "text": text},
        "focus": {"reference": f"{TYPE}/{document_id}"},
        "authoredOn": instant_of(now_us()),
        **({"for": {"reference": subject}} if subject else {}),
    }


def _performer(role: str) -> Json:
    return {"coding": [{"system": ROLE, "code": role}]}
