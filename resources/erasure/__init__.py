"""Erasure: a patient asks, two people approve, retention and legal holds are heeded, and what was done is proved."""

from resources.erasure.part import PART

__all__ = ["PART"]
