"""Terminology as it was at a moment of the past: the same engine, over the definitions of then.

What the specification and this server carry, and units, are the same at every moment. Code systems from files keep no
history: where one came since, what was before it is not known.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html (date)
"""

from __future__ import annotations

from collections.abc import Collection

from fhir_server.model.clock import instant_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.terminology.big import BigFound, BigHoldings
from fhir_server.terminology.big_build import FILE
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.holdings import Holdings
from fhir_server.validation.profile.source import Source


class PastFiles(BigHoldings):
    """The code systems from files that are in force since a moment, or longer; those of resources are read as these."""

    def __init__(self, now: BigHoldings, moment_us: int) -> None:
        self.systems, self.concepts, self._counts = now.systems, now.concepts, now._counts
        self._moment_us = moment_us

    async def code_systems(self, urls: Collection[str]) -> BigFound:
        """As of all.

        Raises:
            UnprocessableError: 422; one of the code systems came from a file since.
        """
        found = await super().code_systems(urls)
        systems = {
            url: [system for system in several if system.origin.startswith(FILE)]
            for url, several in found.systems.items()
        }
        for url, several in systems.items():
            if any(system.since_us > self._moment_us for system in several):
                raise lost(self._moment_us, f"the code system {url[:200]!r} came from a file after that")
        return BigFound(systems, set(), set())


class PastEngine(Engine):
    """Terminology at a moment; no server elsewhere is asked, which would tell what is so today."""

    def __init__(self, now: Engine, source: Source, base_url: str, moment_us: int) -> None:
        big = None if now.big is None else PastFiles(now.big, moment_us)
        super().__init__(Holdings(source), base_url, big=big)
        self.moment_us = moment_us


def lost(moment_us: int, why: str) -> UnprocessableError:
    """422: what was in force at a moment is not known."""
    return UnprocessableError(
        f"What was in force at {instant_of(moment_us)} is not known here: {why}.",
        code="not-supported",
        expression="Parameters.parameter.where(name='date')",
        key="HS-TERM-DATE",
    )
