"""The HTTP edge: bytes in, a plain request; a plain answer, bytes out. Nothing below knows of the web."""
