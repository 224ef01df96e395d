"""The directory: doctors found by what they do, where, in which language, for whose money, and when."""

from __future__ import annotations

from resources.directory.part import PART

__all__ = ["PART"]
