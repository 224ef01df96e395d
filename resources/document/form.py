"""A browser's form (multipart/form-data) that passes through: its fields, and its one file, never whole in memory.

Spec: https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from fhir_server.model.errors import InvalidError, TooLargeError

#: The fields of a form, all together; the file is apart.
MOST_FIELD_BYTES = 256 * 1024
MOST_FIELDS = 100


class Form:
    """A form, read part by part.

    `file()` gives the bytes of the file; fields that stand before it are known when its first bytes come, all others
    when it has ended.

    Attributes:
        fields: what was read of the fields, in their order
        filename: of the file
        content_type: of the file, as the browser says
    """

    def __init__(self, content: AsyncIterator[bytes], content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise wrong("it has no boundary")
        self._content = content
        self.fields: list[tuple[str, str]] = []
        self.filename = ""
        self.content_type = ""
        self._has_file = False
        self._is_file = False
        self._name = ""
        self._headers: dict[str, bytes] = {}
        self._header = bytearray()
        self._value = bytearray()
        self._part = bytearray()
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        calls: Any = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_ends,
            "on_end": self._form_ends,
        }
        self._parser = MultipartParser(boundary, calls)

    async def file(self) -> AsyncIterator[bytes]:
        """The bytes of the file.

        Raises:
            InvalidError: 400; it is no form, or has not one file.
            TooLargeError: 413; its fields are too much.
        """
        async for data in self._content:
            try:
                self._parser.write(data)
            except (ValueError, KeyError) as error:
                raise wrong(str(error)) from None
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
        if not self._ended:
            raise wrong("it ends too early")
        if not self._has_file:
            raise wrong("it has no file: one part with a `filename` was expected")

    def _part_begins(self) -> None:
        self._headers = {}
        self._part = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if not self._is_file:
            return
        if self._has_file:
            raise wrong("it has several files; send them one by one")
        self._has_file = True
        self.filename = options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
        self.content_type = self._headers.get("content-type", b"").decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            return
        self._size += end - start
        if self._size > MOST_FIELD_BYTES:
            raise TooLargeError(
                f"The fields of the form have more than {MOST_FIELD_BYTES:,} bytes.", key="HS-DOCUMENT-FORM"
            )
        self._part += data[start:end]

    def _part_ends(self) -> None:
        if self._is_file:
            return
        if len(self.fields) >= MOST_FIELDS:
            raise wrong(f"it has more than {MOST_FIELDS} fields")
        try:
            self.fields.append((self._name, self._part.decode()))
        except UnicodeDecodeError:
            raise wrong(f"the field {self._name[:40]!r} is not UTF-8") from None

    def _form_ends(self) -> None:
        self._ended = True


def wrong(why: str) -> InvalidError:
    return InvalidError(f"The form cannot be read: {why}.", code="structure", key="HS-DOCUMENT-FORM")
