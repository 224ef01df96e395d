"""The people of the tests of documents."""

from tests.resources.document.conftest import clinic, plain_clinic

__all__ = ["clinic", "plain_clinic"]
