"""Statistics of measured values, reckoned in fractions: no sum loses a digit, and only roots and endless quotients are
rounded, once, to 15 significant digits.

Quantiles lie on the line between the two nearest values (the inclusive method of spreadsheets); variance and standard
deviation are those of a sample (n - 1); skew and kurtosis are the moments about the mean, kurtosis 3 for a normal
distribution.

Spec: http://hl7.org/fhir/R4/valueset-observation-statistics.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact
from fractions import Fraction

#: Digits that an exact result may have; a longer one is rounded to fewer.
EXACT_DIGITS = 18
ROUNDED_DIGITS = 15

_EXACT = Context(prec=EXACT_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
_ROUNDED = Context(prec=ROUNDED_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_ROOT = Context(prec=40, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])

DAY_US = 86_400_000_000

Values = Sequence[Fraction]


@dataclass(frozen=True, slots=True)
class Line:
    """A regression: `gradient` per day, `intercept` at the first measurement."""

    gradient: Fraction
    intercept: Fraction


def decimal_of(value: Fraction) -> Decimal:
    """A fraction as a decimal, exact where 18 digits are enough, else rounded to 15."""
    numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
    try:
        exact = _EXACT.divide(numerator, denominator)
    except Inexact:
        exact = _ROUNDED.divide(numerator, denominator)
    plain = exact.normalize(_ROUNDED if len(exact.as_tuple().digits) <= ROUNDED_DIGITS else _EXACT)
    exponent = plain.as_tuple().exponent
    # 1E+2 is written 100
    return plain.quantize(Decimal(1)) if isinstance(exponent, int) and 0 < exponent < ROUNDED_DIGITS else plain


def root_of(value: Fraction) -> Fraction:
    return Fraction(_ROOT.sqrt(_ROOT.divide(Decimal(value.numerator), Decimal(value.denominator))))


def average(values: Values) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def moment(values: Values, power: int) -> Fraction:
    """The mean power of the distances from the mean."""
    mean = average(values)
    return sum(((value - mean) ** power for value in values), Fraction(0)) / len(values)


def quantile(values: Values, part: Fraction) -> Fraction:
    ranked = sorted(values)
    place = part * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (ranked[above] - ranked[below]) * (place - below)


def variance(values: Values) -> Fraction | None:
    return moment(values, 2) * len(values) / (len(values) - 1) if len(values) > 1 else None


def deviation(values: Values) -> Fraction | None:
    found = variance(values)
    return None if found is None else root_of(found)


def skew(values: Values) -> Fraction | None:
    spread = moment(values, 2)
    return moment(values, 3) / (spread * root_of(spread)) if spread else None


def kurtosis(values: Values) -> Fraction | None:
    spread = moment(values, 2)
    return moment(values, 4) / spread**2 if spread else None


def regression(values: Values, moments_us: Sequence[int]) -> Line | None:
    """The line of least squares; None where all was measured at one time."""
    days = [Fraction(moment_us - min(moments_us), DAY_US) for moment_us in moments_us]
    mean_day, mean = average(days), average(values)
    spread = sum(((day - mean_day) ** 2 for day in days), Fraction(0))
    if not spread:
        return None
    together = ((day - mean_day) * (value - mean) for day, value in zip(days, values, strict=True))
    gradient = sum(together, Fraction(0)) / spread
    return Line(gradient, mean - gradient * mean_day)


def quartile_deviation(values: Values) -> Fraction:
    return (quantile(values, Fraction(3, 4)) - quantile(values, Fraction(1, 4))) / 2


def _quantile(part: Fraction) -> Callable[[Values], Fraction]:
    return lambda values: quantile(values, part)


#: What each code of the value set means, for at least one value; counts and regression are reckoned apart.
FIGURES: dict[str, Callable[[Values], Fraction | None]] = {
    "average": average,
    "maximum": max,
    "minimum": min,
    "median": _quantile(Fraction(1, 2)),
    "std-dev": deviation,
    "sum": lambda values: sum(values, Fraction(0)),
    "variance": variance,
    "20-percent": _quantile(Fraction(1, 5)),
    "80-percent": _quantile(Fraction(4, 5)),
    "4-lower": _quantile(Fraction(1, 4)),
    "4-upper": _quantile(Fraction(3, 4)),
    "4-dev": quartile_deviation,
    "5-1": _quantile(Fraction(1, 5)),
    "5-2": _quantile(Fraction(2, 5)),
    "5-3": _quantile(Fraction(3, 5)),
    "5-4": _quantile(Fraction(4, 5)),
    "skew": skew,
    "kurtosis": kurtosis,
}
COUNTS = ("count", "total-count")
REGRESSION = "regression"
