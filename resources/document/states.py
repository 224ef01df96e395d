"""What may become of a document: its two state machines, and what nobody says of it but the server.

`status` is whether this entry is in use; `docStatus` whether the document itself is finished.

Spec: https://hl7.org/fhir/R4/documentreference.html, valueset-document-reference-status, valueset-composition-status
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.rules import Write
from resources.document.words import TYPE, mark_in, marks_of, with_tags
from resources.states import StateMachine

Json = dict[str, Any]

#: In the name of the examination.
SCAN_BY: Final = "scan"

#: The operations that say what is known of a content.
MARKING: Final = frozenset({SCAN_BY, "upload", "release"})

STATUS: Final = StateMachine(
    TYPE,
    {"current": ("superseded", "entered-in-error"), "superseded": ("entered-in-error",)},
    {},
    mistaken=False,
)

DOC_STATUS: Final = StateMachine(
    TYPE,
    {"preliminary": ("final", "amended"), "final": ("amended",), "amended": ("final",)},
    {},
    element="docStatus",
)

#: Who does not say that a document is finished: somebody else looks at what they send.
LAY: Final = frozenset({"patient", "proxy"})

#: Marks of what is in quarantine: such a document cannot be finished.
HELD: Final = frozenset({"waiting", "infected", "active-content", "unscannable"})


def marks(write: Write) -> Json | None:
    """What is known of a content stays what it is, whatever a plain write says of it."""
    if write.new is None or write.by in MARKING:
        return write.new
    if not marks_of(write.new) and not marks_of(write.old):
        return write.new
    return with_tags(write.new, marks_of(write.old))


def finishing(write: Write) -> Json | None:
    """Who may say that a document is finished, and of which.

    Raises:
        ForbiddenError: 403; a patient says so.
        UnprocessableError: 422; it is in quarantine.
    """
    new = write.new
    if new is None or write.by == SCAN_BY:
        return new
    before, after = (write.old or {}).get("docStatus"), new.get("docStatus")
    if write.caller.identity.role in LAY:
        if write.old is None and after is None:
            return {**new, "docStatus": "preliminary"}
        if after != before and not (write.old is None and after == "preliminary") and after != "entered-in-error":
            kept = before or "preliminary"
            raise ForbiddenError(
                f"Whether a document is finished is said by who looks at it; docStatus stays {kept!r}.",
                key="HS-DOCUMENT-FINISH",
                expression=f"{TYPE}.docStatus",
            )
    elif before == "preliminary" and after in ("final", "amended") and mark_in(write.old) in HELD:
        raise UnprocessableError(
            f"The content of {write.reference} is in quarantine: nobody can have looked at it.",
            key="HS-DOCUMENT-HELD",
            expression=f"{TYPE}.docStatus",
        )
    return new


def inline(write: Write) -> Json | None:
    """What people send has its data beside it, where it is examined.

    Raises:
        UnprocessableError: 422; there is data in it.
    """
    if write.new is None or write.caller.identity.role in ("system", "operator"):
        return write.new
    old = set(inline_data(write.old))
    for number, data in enumerate(inline_data(write.new)):
        if data is not None and data not in old:
            raise UnprocessableError(
                "A document with data in it is sent by itself: POST DocumentReference, or DocumentReference/$upload.",
                key="HS-DOCUMENT-INLINE",
                expression=f"{TYPE}.content[{number}].attachment.data",
            )
    return write.new


def inline_data(resource: Json | None) -> list[str | None]:
    """The data within each content of a document; None where there is none."""
    rows = (resource or {}).get("content")
    attachments = (
        [row.get("attachment") if isinstance(row, dict) else None for row in rows] if type(rows) is list else []
    )
    found = [attachment.get("data") if isinstance(attachment, dict) else None for attachment in attachments]
    return [data if isinstance(data, str) else None for data in found]


RULES: Final = tuple((TYPE, rule) for rule in (marks, STATUS.rule, DOC_STATUS.rule, finishing, inline))
