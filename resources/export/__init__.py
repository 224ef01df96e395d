"""A patient's own data as one archive. `forget` removes archives, for who erases."""

from resources.export.archives import forget
from resources.export.part import PART

__all__ = ["PART", "forget"]
