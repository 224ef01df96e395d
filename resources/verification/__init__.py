"""Doctors are verified before anybody finds them: claims, four eyes, and licences that end."""

from __future__ import annotations

from resources.verification.part import PART

__all__ = ["PART"]
