"""What a value leaves in the index: one module for each type of search parameter.

Each has a function that chooses, by FHIR type, the closure that makes a value's entries; it gives None for a type that
leaves nothing to be found by (an Age under a date parameter, SampledData under a quantity parameter).

Spec: https://hl7.org/fhir/R4/search.html#ptypes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Further entries of a parameter by suffix: `:text`, `:exact`, `:of-type`, `:identifier`, `:inside`.
Further = dict[str, list[Any]]

#: The ids of contained resources that are referred to (`#m1`).
INSIDE = ":inside"

#: Appends the entries of one value: the main ones to the list, the others by their suffix.
Make = Callable[[Any, list[Any], Further], None]
