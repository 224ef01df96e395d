"""How much one search may ask for, so that nobody's takes the server from all others.

Spec: https://hl7.org/fhir/R4/search.html#errors
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.model.errors import UnprocessableError
from fhir_server.search.escape import split


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a search may ask for.

    Attributes:
        parameters: most parameters
        values: most values of all of them together
        chain_depth: most steps from resource to resource in one parameter
        includes: most resources that are included with a page
        include_rounds: how far includes go on from what was included
    """

    parameters: int = 100
    values: int = 5000
    chain_depth: int = 5
    includes: int = 1000
    include_rounds: int = 8

    def require(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Refuse a search that asks for more.

        Raises:
            UnprocessableError: 422; it has too many parameters or values.
        """
        if len(pairs) > self.parameters:
            raise UnprocessableError(
                f"The search has {len(pairs):,} parameters; this server takes {self.parameters:,}. Alternatives go "
                "into one parameter, separated by commas.",
                code="too-costly",
                key="HS-LIMIT-PARAMETERS",
            )
        if sum(text.count(",") + 1 for _, text in pairs) <= self.values:
            return
        count = sum(len(split(text, ",")) for _, text in pairs)
        if count > self.values:
            raise UnprocessableError(
                f"The search has {count:,} values; this server takes {self.values:,} at once. Ask in several searches.",
                code="too-costly",
                key="HS-LIMIT-VALUES",
            )


#: Where nothing else is set.
BOUNDS = Bounds()
