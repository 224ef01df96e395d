"""The order of versions: `1.10.0` comes after `1.2.0`, and `2.0.0-ballot` before `2.0.0`.

Spec: https://semver.org/#spec-item-11
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERS = re.compile(r"\d+")

Rank = tuple[tuple[int, ...], bool, tuple[int, ...], str]


def rank_of(version: str) -> Rank:
    """What versions are ordered by; those that are no numbers come first."""
    release, dash, rest = version.partition("-")
    return _numbers(release), not dash, _numbers(rest), version


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBERS.findall(text)[:8] if len(number) < 20)


def newest_of(versions: Iterable[str], wanted: str) -> str | None:
    """The newest version that a wish allows: `5.0.x` any patch, `latest` and `current` any; else that one alone."""
    if wanted in ("latest", "current", "dev", "*"):
        allowed = list(versions)
    elif wanted.endswith(".x") or wanted.endswith(".*"):
        allowed = [version for version in versions if version.startswith(wanted[:-1])]
    else:
        allowed = [version for version in versions if version == wanted]
    return max(allowed, key=rank_of, default=None)
