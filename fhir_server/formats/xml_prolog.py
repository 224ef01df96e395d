"""What stands before the root element of an XML document, looked at before any parser reads it.

A document type could declare entities that expand without end or fetch files; FHIR allows none, so none gets as far as
a parser.

Spec: https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/security.html#narrative
"""

from __future__ import annotations

import re

from fhir_server.model.errors import InvalidError

BOM = b"\xef\xbb\xbf"
ENCODING = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9._\-]{1,40})[\"']")
PARTS = ((b"<!--", b"-->"), (b"<?", b"?>"))
NOT_BLANK = re.compile(rb"[^ \t\r\n]")


def without_prolog_faults(data: bytes) -> bytes:
    """The document, without a byte order mark.

    Raises:
        InvalidError: 400; it is empty, declares another encoding than UTF-8, or has a document type.
    """
    data = data.removeprefix(BOM)
    declared = ENCODING.match(data)
    if declared is not None and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise InvalidError(
            f"The XML declares the encoding {declared[1].decode()!r}; FHIR is sent as UTF-8.",
            code="structure",
            key="HS-XML-ENCODING",
        )
    place = 0
    while (first := NOT_BLANK.search(data, place)) is not None:
        place = first.start()
        for opening, closing in PARTS:
            if data.startswith(opening, place):
                ended = data.find(closing, place + len(opening))
                break
        else:
            if data.startswith(b"<!", place):
                raise document_type(data.count(b"\n", 0, place) + 1)
            return data
        if ended < 0:
            return data  # the parser will tell where
        place = ended + len(closing)
    raise InvalidError("The body is empty; an XML document was expected.", code="structure", key="HS-XML-EMPTY")


def document_type(line: int) -> InvalidError:
    return InvalidError(
        f"Line {line}: found a document type (<!DOCTYPE); FHIR allows none.", code="structure", key="HS-XML-DOCTYPE"
    )
