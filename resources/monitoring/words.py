"""Why a threshold fired, in words that show the reckoning."""

from __future__ import annotations

from fractions import Fraction

from fhir_server.interactions.figures import decimal_of
from resources.monitoring.engine import Episode
from resources.monitoring.threshold import Threshold

_WHILES = ((86_400_000_000, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second"))
_CLEAR = {">": "at or below", ">=": "below", "<": "at or above", "<=": "above"}


def reason_of(rule: Threshold, episode: Episode) -> str:
    """What was judged, against what, and when it will be over."""
    criteria, unit = rule.criteria, rule.unit
    judged = f"{number(episode.figure)} {unit}"
    if episode.baseline is not None:
        against = (
            f"{number(episode.baseline)} {unit}, the median of the {while_words(criteria.baseline_us or 0)} before"
        )
        judged = f"changed by {judged} from {against}"
    if criteria.mean:
        over = while_words(criteria.window_us) if criteria.window_us else f"last {criteria.of} measurements"
        judged = f"mean of {over}: {judged}"
    words = f"{rule.title}: {judged}, {criteria.comparator} {number(criteria.level)} {unit}"
    if criteria.of > 1 and not criteria.mean:
        within = f" within {while_words(criteria.window_us)}" if criteria.window_us else ""
        words += f", {len(episode.evidence)} of the last {criteria.of}{within}"
    if criteria.lasting_us:
        words += f", for {while_words(criteria.lasting_us)} at least"
    return f"{words}. It clears {_CLEAR[criteria.comparator]} {number(criteria.clear)} {unit}."


def number(value: Fraction) -> str:
    """A number as people write it: four digits behind the point at most."""
    return f"{decimal_of(Fraction(round(value * 10_000), 10_000)).normalize():f}"


def while_words(moment_us: int) -> str:
    for long_us, name in _WHILES:
        if moment_us % long_us == 0:
            count = moment_us // long_us
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{moment_us / 1_000_000:g} seconds"
