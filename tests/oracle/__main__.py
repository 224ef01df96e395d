"""`make oracle`: HL7's own validator (of 2019) as a second opinion, and where the two differ.

Usage: python -m tests.oracle [FOLDER WITH THE TEST DATA; else where the tests look for them]

Each difference is judged in `docs/validation-oracle.md`; `judged` has the kinds. One of no kind makes it fail.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from tests.oracle.cases import Case, cases, definitions
from tests.oracle.fetch import UnavailableError
from tests.oracle.hl7 import verdicts
from tests.oracle.judged import judgement_of
from tests.real_data import unpacked

FOLDER = Path(__file__).parents[2] / ".oracle"


def main(arguments: list[str]) -> int:
    if arguments:
        os.environ["HEALTHSPHERE_TEST_DATA"] = arguments[0]
    data = unpacked()
    if data is None:
        if arguments:
            print(f"There are no examples in {arguments[0]}.")
            return 2
        print("The examples of R4 are not here: ours are asked about alone.")
    examples = data / "r4-examples" if data is not None else None
    ours = {case.name: case for case in cases(examples)}
    try:
        theirs = verdicts(FOLDER, {name: case.raw for name, case in ours.items()}, definitions())
    except UnavailableError as error:
        print(f"No second opinion here: {error}")
        return 2
    return told(ours, theirs)


def told(ours: dict[str, Case], theirs: dict[str, tuple[str, ...]]) -> int:
    """Tell what differs, by kind, and all that nobody has judged; how many these are decides."""
    kinds: Counter[str] = Counter()
    open_ones = 0
    for name, case in ours.items():
        if name not in theirs:
            kinds["not answered"] += 1
            open_ones += 1
            print(f"{name} ({case.about}): no answer")
        elif bool(case.errors) != bool(theirs[name]):
            kind = judgement_of(case, theirs[name])
            kinds[kind or "NOT JUDGED"] += 1
            if kind is None:
                open_ones += 1
                print(f"{name} ({case.about})")
                print(f"  ours:   {case.errors[:3] or 'valid'}")
                print(f"  theirs: {theirs[name][:3] or 'valid'}")
    agree = len(ours) - sum(kinds.values())
    print(f"{len(ours)} resources; {agree} verdicts agree.")
    for kind, number in sorted(kinds.items()):
        print(f"{number:5}  {kind}")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
