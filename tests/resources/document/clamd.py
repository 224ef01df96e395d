"""A clamd that speaks the real INSTREAM protocol and knows one virus: the EICAR test file."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

#: https://www.eicar.org/download-anti-malware-testfile/, in two pieces so that no scanner of ours finds this file.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

LIMIT = 1024 * 1024


class FakeClamd:
    """Listens in threads of its own; `down` closes each connection without a word.

    Attributes:
        seen: how many bytes each scan had
    """

    def __init__(self, *, limit: int = LIMIT, path: Path | None = None) -> None:
        self.limit = limit
        self.down = False
        self.seen: list[int] = []
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0) if path is None else str(path))
        self._socket.listen(16)
        self.address = f"unix://{path}" if path else f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming:
            if self.down:
                return
            command = b""
            while not command.endswith(b"\0"):
                command += incoming.read(1)
            assert command == b"zINSTREAM\0"
            data = b""
            while True:
                (length,) = struct.unpack("!L", incoming.read(4))
                if length == 0:
                    break
                data += incoming.read(length)
                if len(data) > self.limit:
                    connection.sendall(b"INSTREAM size limit exceeded. ERROR\0")
                    return
            self.seen.append(len(data))
            found = b"stream: Eicar-Test-Signature FOUND\0" if EICAR in data else b"stream: OK\0"
            connection.sendall(found)
