"""What stops the server before it starts, told to the person who starts it."""

from __future__ import annotations


class SetupError(Exception):
    """Something of the machine or the configuration must change first; the text is one line that says what to do."""
