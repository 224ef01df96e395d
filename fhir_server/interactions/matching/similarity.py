"""How alike two texts are: Jaro-Winkler for names, and the slips that people make with dates.

Spec: none of FHIR's; the measure is that of M. Jaro (1989) and W. Winkler (1990)
"""

from __future__ import annotations

#: What a common beginning adds, for each of at most four characters.
PREFIX_WEIGHT = 0.1


def jaro_winkler(one: str, other: str) -> float:
    """The likeness of two texts, 0 (nothing in common) to 1 (the same).

    >>> round(jaro_winkler("martha", "marhta"), 3)
    0.961
    >>> jaro_winkler("abc", "xyz")
    0.0
    """
    if one == other:
        return 1.0
    jaro = _jaro(one, other)
    prefix = 0
    for left, right in zip(one[:4], other[:4], strict=False):
        if left != right:
            break
        prefix += 1
    return jaro + prefix * PREFIX_WEIGHT * (1 - jaro)


def _jaro(one: str, other: str) -> float:
    if not one or not other:
        return 0.0
    reach = max(0, max(len(one), len(other)) // 2 - 1)
    taken = [False] * len(other)
    common: list[str] = []
    for place, character in enumerate(one):
        for candidate in range(max(0, place - reach), min(len(other), place + reach + 1)):
            if not taken[candidate] and other[candidate] == character:
                taken[candidate] = True
                common.append(character)
                break
    if not common:
        return 0.0
    found = [character for character, hit in zip(other, taken, strict=True) if hit]
    swapped = sum(a != b for a, b in zip(common, found, strict=True)) / 2
    count = len(common)
    return (count / len(one) + count / len(other) + (count - swapped) / count) / 3


def is_slip(one: str, other: str) -> bool:
    """Whether two whole dates (`1970-05-06`) differ by one slip: day and month swapped, two neighbouring digits
    swapped, or one digit wrong.

    >>> is_slip("1970-05-06", "1970-06-05"), is_slip("1970-05-06", "1907-05-06"), is_slip("1970-05-06", "1971-05-16")
    (True, True, False)
    """
    left, right = one.replace("-", ""), other.replace("-", "")
    if len(left) != 8 or len(right) != 8 or left == right:
        return False
    if left[:4] == right[:4] and left[4:6] == right[6:] and left[6:] == right[4:6]:
        return True
    differing = [n for n in range(8) if left[n] != right[n]]
    if len(differing) == 1:
        return True
    first = differing[0]
    return (
        len(differing) == 2
        and differing[1] == first + 1
        and left[first] == right[first + 1]
        and left[first + 1] == right[first]
    )
