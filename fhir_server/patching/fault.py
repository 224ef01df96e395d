"""What can be wrong with a patch, told with the number of the operation and its words.

What cannot be read as a patch is 400; what can be read and does not go with the resource as it is now is 422.
"""

from __future__ import annotations

from fhir_server.model.errors import InvalidError, TooLargeError, UnprocessableError

#: More than a patch can sensibly have; a resource that changes in so many places is sent whole.
MOST_OPERATIONS = 1000


def malformed(reason: str, place: str | None = None) -> InvalidError:
    """The patch is not what its format says."""
    return InvalidError(reason, expression=place, code="structure", key="HS-PATCH-FORMAT")


def lost(reason: str, place: str | None = None) -> UnprocessableError:
    """An operation's place is not in the resource, or is not the one place that it must be."""
    return UnprocessableError(reason, expression=place, code="processing", key="HS-PATCH-PATH")


def unfit(reason: str, place: str | None = None) -> UnprocessableError:
    """An operation's value cannot stand at its place."""
    return UnprocessableError(reason, expression=place, code="value", key="HS-PATCH-VALUE")


def untrue(reason: str) -> UnprocessableError:
    """A test did not hold."""
    return UnprocessableError(reason, code="processing", key="HS-PATCH-TEST")


def identity_changed(reason: str, place: str) -> UnprocessableError:
    """The result would be another resource."""
    return UnprocessableError(reason, expression=place, code="business-rule", key="HS-PATCH-IDENTITY")


def too_costly(reason: str) -> UnprocessableError:
    """The result would be nested or large beyond what a resource can be, or takes too long to make."""
    return UnprocessableError(reason, code="too-costly", key="HS-PATCH-COST")


def too_many(count: int) -> TooLargeError:
    """There are more operations than a patch may have."""
    return TooLargeError(
        f"The patch has {count:,} operations; this server carries out {MOST_OPERATIONS:,} in one patch.",
        key="HS-PATCH-SIZE",
    )
