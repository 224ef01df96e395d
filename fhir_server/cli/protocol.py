"""uvicorn's HTTP protocol with an end to the head of a request.

The application judges address and headers by its settings once they are whole; uvicorn gathers them without a limit, so
a client that never ends a header would fill the memory before anything is judged.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Most bytes before the end of the headers. The settings allow at most half of it for each of address and headers; what
#: comes of the body in the same read counts, too.
MOST_HEAD_BYTES = 2 * 2**20


class BoundedProtocol(HttpToolsProtocol):
    """Answers 400 and closes the connection when the head of a request does not end in time."""

    _in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Hand on what came, unless it is too much of a head."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response("The headers of the request do not end.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()
