"""What a content is, by its first bytes, and whether that is what it was said to be.

What a browser or a viewer opens goes by the type; so a content that lies about its type is refused (422), rather than
stored under either name.
"""

from __future__ import annotations

from typing import Final

import filetype

from fhir_server.model.errors import UnprocessableError, UnsupportedMediaTypeError

#: As many of the first bytes are looked at.
HEAD_BYTES: Final = 8192

#: Says nothing about a content.
ANYTHING: Final = "application/octet-stream"

#: Types that are always told by their first bytes: a content of which these say nothing is none of them.
TOLD: Final = frozenset(
    {
        "application/pdf",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/tiff",
        "image/bmp",
        "application/dicom",
        "application/zip",
    }
)

#: Names of the same type.
SAME: Final = {"image/jpg": "image/jpeg", "application/x-pdf": "application/pdf", "image/x-ms-bmp": "image/bmp"}

#: What a container holds is not told by its first bytes.
CONTAINED: Final = {
    "application/zip": ("application/vnd.openxmlformats", "application/vnd.oasis.opendocument", "application/epub"),
}

#: Not shown as what they are, ever: pages and pictures that can hold scripts.
ACTIVE: Final = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml", "text/javascript"})


def kind_of(head: bytes) -> str | None:
    """The type that the first bytes tell of; None where they tell nothing."""
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    if head[128:132] == b"DICM":
        return "application/dicom"
    found = filetype.guess_mime(head)
    return None if found is None else SAME.get(found, str(found))


def settled(said: str, head: bytes) -> str:
    """The type under which a content is stored.

    Raises:
        UnprocessableError: 422; it is not what it is said to be.
    """
    plain = said.partition(";")[0].strip().lower()
    plain = SAME.get(plain, plain)
    found = kind_of(head)
    if plain in ("", ANYTHING):
        return found or (said.strip() or ANYTHING)
    if found == plain or (found is None and plain not in TOLD):
        return said.strip()
    if found is not None and any(plain.startswith(inner) for inner in CONTAINED.get(found, ())):
        return said.strip()
    told = f"its first bytes are those of {found}" if found else "its first bytes are those of something else"
    raise UnprocessableError(
        f"The content is said to be {plain[:80]!r}, but {told}. Send it with its own type.",
        key="HS-DOCUMENT-TYPE",
        expression="DocumentReference.content.attachment.contentType",
    )


def require_taken(content_type: str, allowed: tuple[str, ...]) -> None:
    """A type is one that this server takes documents of.

    Raises:
        UnsupportedMediaTypeError: 415; it is not.
    """
    plain = content_type.partition(";")[0].strip().lower()
    group = plain.partition("/")[0] + "/*"
    if plain in allowed or "*/*" in allowed or (group in allowed and plain not in ACTIVE):
        return
    raise UnsupportedMediaTypeError(
        f"Documents of the type {plain[:80]!r} are not taken; taken are {', '.join(allowed)}.",
        key="HS-DOCUMENT-KIND",
        expression="DocumentReference.content.attachment.contentType",
    )
