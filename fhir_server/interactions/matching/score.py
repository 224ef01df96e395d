"""How probable it is that two records are of one person.

Each fact that agrees or contradicts is worth some bits of evidence, as in the record linkage of Fellegi and Sunter:
`n` bits make the same person 2**n times as probable. The sum starts at `PRIOR`. What may be called certain is ruled by
kinds of evidence beside that: no sum of weak facts is enough, and nothing that contradicts may stand beside it.

Spec: https://hl7.org/fhir/R4/patient-operation-match.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fhir_server.interactions.matching.facts import Facts
from fhir_server.interactions.matching.similarity import is_slip, jaro_winkler

Grade = Literal["certain", "probable", "possible", "certainly-not"]

#: Bits of evidence against two records being of one person before anything is compared.
PRIOR = -10.0

#: Evidence short of what certainty needs is never told with more than this.
MOST_UNCERTAIN = 0.94
PROBABLE = 0.8
POSSIBLE = 0.2

#: From here on two names are spellings of one.
ALIKE = 0.92
SIMILAR = 0.85

#: The words of a full agreement; certainty asks for them.
IDENTIFIER, FAMILY, GIVEN, BIRTH, PHONE, EMAIL, ADDRESS = (
    "identifier",
    "family",
    "given",
    "birthDate",
    "phone",
    "email",
    "address",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison's outcome.

    Attributes:
        score: 0 to 1
        grade: in the words of FHIR's match-grade
        bits: the sum of the evidence, which orders what has the same score
        agreeing: the facts that agree fully
        contradicting: the facts that speak against it
    """

    score: float
    grade: Grade
    bits: float
    agreeing: frozenset[str]
    contradicting: frozenset[str]


def compared(wanted: Facts, found: Facts) -> Verdict:
    """Compare what is known of the person wanted with what is known of the one found."""
    weights = {
        IDENTIFIER: identifier_bits(wanted, found),
        FAMILY: family_bits(wanted.families, found.families),
        GIVEN: given_bits(wanted.givens, found.givens),
        BIRTH: birth_bits(wanted.birth, found.birth),
        "gender": (1.0 if wanted.gender == found.gender else -4.0) if wanted.gender and found.gender else 0.0,
        PHONE: shared_bits(wanted.phones, found.phones, 6.0),
        EMAIL: shared_bits(wanted.emails, found.emails, 7.0),
        ADDRESS: place_bits(wanted, found),
    }
    full = {IDENTIFIER: 14.0, FAMILY: 6.0, GIVEN: 4.0, BIRTH: 8.0, PHONE: 6.0, EMAIL: 7.0, ADDRESS: 5.0}
    agreeing = frozenset(name for name, bits in weights.items() if bits >= full.get(name, 99.0))
    contradicting = frozenset(name for name, bits in weights.items() if bits <= -2.0)
    bits = PRIOR + sum(weights.values())
    score = 1.0 / (1.0 + 2.0**-bits)
    if is_certain(agreeing, contradicting, weights) and score > MOST_UNCERTAIN:
        return Verdict(score, "certain", bits, agreeing, contradicting)
    score = min(score, MOST_UNCERTAIN)
    grade: Grade = "probable" if score >= PROBABLE else "possible" if score >= POSSIBLE else "certainly-not"
    return Verdict(score, grade, bits, agreeing, contradicting)


def is_certain(agreeing: frozenset[str], contradicting: frozenset[str], weights: dict[str, float]) -> bool:
    """Whether the kinds of evidence allow certainty.

    Either an identifier of the same system agrees together with the name or the birth date, or the whole name, the
    birth date and two independent ways to reach the person do; and nothing contradicts.
    """
    if contradicting:
        return False
    if IDENTIFIER in agreeing:
        return BIRTH in agreeing or (weights[FAMILY] >= 4.0 and weights[GIVEN] > 0)
    return {FAMILY, GIVEN, BIRTH} <= agreeing and len(agreeing & {PHONE, EMAIL, ADDRESS}) >= 2


def identifier_bits(wanted: Facts, found: Facts) -> float:
    """Of one system: the same 14, different -4. A value without a system is worth half an agreement."""
    ours, theirs = wanted.identifiers | wanted.retired, found.identifiers | found.retired
    if any(system for system, _ in ours & theirs):
        return 14.0
    if {v for _, v in ours} & {v for s, v in theirs if not s} or {v for s, v in ours if not s} & {v for _, v in theirs}:
        return 6.0
    systems = {s for s, _ in wanted.identifiers if s} & {s for s, _ in found.identifiers if s}
    return -4.0 if systems else 0.0


def family_bits(wanted: tuple[str, ...], found: tuple[str, ...]) -> float:
    if not wanted or not found:
        return 0.0
    # Of two family names one is often left out: each part is compared, too.
    best = max(jaro_winkler(a, b) for a in wanted for b in found)
    if best < 1.0 and any(set(a.split()) & set(b.split()) for a in wanted for b in found):
        best = max(best, ALIKE)
    return 6.0 if best == 1.0 else 4.0 if best >= ALIKE else 1.5 if best >= SIMILAR else -4.0


def given_bits(wanted: tuple[str, ...], found: tuple[str, ...]) -> float:
    if not wanted or not found:
        return 0.0
    if set(wanted) & {f for f in found if len(f) > 1}:
        return 4.0
    if any((len(a) == 1 or len(b) == 1) and a[0] == b[0] for a in wanted for b in found):
        return 1.0
    best = max(jaro_winkler(a, b) for a in wanted for b in found)
    return 2.5 if best >= ALIKE else 0.5 if best >= SIMILAR else -3.0


def birth_bits(wanted: str, found: str) -> float:
    """The same day 8; a month or year that both have 5 or 2.5; one slip 4; else -6."""
    if not wanted or not found:
        return 0.0
    shorter = min(len(wanted), len(found))
    if wanted[:shorter] == found[:shorter]:
        return {4: 2.5, 7: 5.0}.get(shorter, 8.0)
    return 4.0 if is_slip(wanted, found) else -6.0


def shared_bits(wanted: frozenset[str], found: frozenset[str], worth: float) -> float:
    """People change their telephone: another one says little."""
    if not wanted or not found:
        return 0.0
    return worth if wanted & found else -0.5


def place_bits(wanted: Facts, found: Facts) -> float:
    """Postal code and street 5, postal code 2.5; people move: another address says little."""
    if not wanted.places or not found.places:
        return 0.0
    best = -0.5
    for code, line in wanted.places:
        for other_code, other_line in found.places:
            street = bool(line and other_line) and jaro_winkler(line, other_line) >= ALIKE
            if code and code == other_code:
                best = max(best, 5.0 if street else 2.5)
            elif street and not (code and other_code):
                best = max(best, 2.5)
    return best
