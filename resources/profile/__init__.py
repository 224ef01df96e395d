"""Profiles: what there is to know of a doctor before a visit, and of a patient at its beginning."""

from __future__ import annotations

from resources.profile.part import PART

__all__ = ["PART"]
