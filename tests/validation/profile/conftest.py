"""The US Core packages, where the test data is there."""

from tests.us_core import us_core

__all__ = ["us_core"]
