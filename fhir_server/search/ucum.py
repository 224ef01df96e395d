"""Quantities in canonical units, so that 120 mg/dL and 1.2 g/L are found by the same search.

The grammar and the table of units are those of UCUM itself (its `ucum-essence.xml`), read through `ucumvert`. The
factors are computed here as fractions, since the registry that ucumvert fills (pint) reckons in floats, in which
100 mg/dL and 1 g/L differ. Units are taken apart to UCUM's base units, with these departures:

- `mol` is a base unit here, where UCUM makes it a number (6.02214076e23): an amount of substance is not to be found
  among plain counts.
- An arbitrary unit (`[iU]`, `[CFU]`) is its own base unit: UCUM section 24 says it can be compared with nothing else.
- So are units on a logarithmic or other curved scale (`[pH]`, `dB`), which are hardly ever compared with others.
  Temperatures are turned to kelvin, offset and all; a scale with an offset has no place in a product (section 21).

Spec: https://ucum.org/ucum, https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

#: Longer codes and higher powers are in no table of units; to reckon them is work for nobody but an attacker.
_MAX_LENGTH = 80
_MAX_EXPONENT = 60

#: Zero of a scale in kelvin; essence names the function and leaves its meaning to the prose of UCUM table 4.
_ZERO_POINTS_K = {"Cel": Fraction("273.15"), "degF": Fraction("459.67") * Fraction(5, 9), "degRe": Fraction("273.15")}

#: Every product of a value and a factor is exact in this many digits; then it is rounded once, to 28, so that
#: quantities that are equal as fractions come out as equal decimals. Nothing is trapped: no number may raise.
_EXACT = Context(prec=300, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_ROUNDED = Context(prec=28, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


@dataclass(frozen=True, slots=True)
class _Measure:
    """A unit taken apart: `factor` times the product of base units with their powers, `zero` above its origin."""

    factor: Fraction
    powers: tuple[tuple[str, int], ...] = ()
    zero: Fraction | None = None


@dataclass(frozen=True, slots=True)
class _Conversion:
    """`(value * numerator + offset) / denominator`, all three whole, so that the division is the only rounding."""

    numerator: Decimal
    offset: Decimal
    denominator: Decimal
    unit: str
    is_identity: bool


def canonical(value: Decimal, code: str) -> tuple[Decimal, str] | None:
    """A value in canonical units, with the canonical unit (`1.2`, `g.m-3`).

    Exact up to 28 significant digits, rounded once: two equal quantities compare equal whatever units they came in.
    Thread safe; the unit is parsed when it is first met.

    Args:
        value: A finite number.
        code: A UCUM code, case sensitive (`mg/dL`, `[lb_av]`, `10*3/uL`).

    Returns:
        None where the code is not UCUM.
    """
    conversion = _conversion_of(code)
    if conversion is None:
        return None
    if conversion.is_identity:
        return _ROUNDED.plus(value), conversion.unit
    exact = _EXACT.fma(value, conversion.numerator, conversion.offset)
    return _ROUNDED.divide(exact, conversion.denominator), conversion.unit


@lru_cache(maxsize=4096)
def _conversion_of(code: str) -> _Conversion | None:
    measure = _measure_of(code)
    if measure is None:
        return None
    zero = measure.zero or Fraction(0)
    numerator, denominator = measure.factor.numerator, measure.factor.denominator
    offset = zero * denominator
    if offset.denominator != 1:
        numerator, denominator = numerator * offset.denominator, denominator * offset.denominator
        offset = zero * denominator
    unit = ".".join(f"{base}{power if power != 1 else ''}" for base, power in measure.powers) or "1"
    is_identity = measure.factor == 1 and not zero
    return _Conversion(Decimal(numerator), Decimal(offset.numerator), Decimal(denominator), unit, is_identity)


def _measure_of(code: str) -> _Measure | None:
    if not 0 < len(code) <= _MAX_LENGTH:
        return None
    library = _library()
    with library.lock:
        try:
            return _main_term(library, library.parse(code))
        except (library.syntax_error, _NotUcum):
            return None


class _NotUcum(ValueError):
    """The code has UCUM's shape and no meaning: degrees in a product, a power beyond reason."""


@dataclass(frozen=True, slots=True)
class _Library:
    parse: Callable[[str], Any]
    syntax_error: type[Exception]
    prefixes: dict[str, Fraction]
    units: dict[str, Any]
    measures: dict[str, _Measure]
    names: dict[str, str]
    lock: threading.RLock


@cache
def _library() -> _Library:
    """UCUM's grammar and tables. Imported when the first quantity comes: that takes about 0.4 s, mostly for pint."""
    from lark.exceptions import LarkError  # noqa: PLC0415
    from ucumvert.parser import get_ucum_parser  # noqa: PLC0415
    from ucumvert.xml_util import root  # noqa: PLC0415

    prefixes = {p.attrib["Code"]: Fraction(p.find("{*}value").attrib["value"]) for p in root.findall(".//{*}prefix")}
    units = {u.attrib["Code"]: u for u in root.findall(".//{*}unit")}
    bases = [b.attrib["Code"] for b in root.findall(".//{*}base-unit")]
    named = [(p.attrib["Code"] + "-", p) for p in root.findall(".//{*}prefix")]
    named += [(u.attrib["Code"], u) for kind in ("unit", "base-unit") for u in root.findall(f".//{{*}}{kind}")]
    return _Library(
        parse=get_ucum_parser().parse,
        syntax_error=LarkError,
        prefixes=prefixes,
        units=units,
        measures={base: _own_base(base) for base in (*bases, "mol")},
        names={code: row.find("{*}name").text for code, row in named},
        lock=threading.RLock(),
    )


def _own_base(code: str) -> _Measure:
    return _Measure(Fraction(1), ((code, 1),))


def _main_term(library: _Library, tree: Any) -> _Measure:
    """`term` or `/term`; the leading solidus turns over what directly follows it, the rest goes from left to right."""
    if len(tree.children) == 2:
        return _term(library, tree.children[1], -1)
    return _term(library, tree.children[0], 1)


def _term(library: _Library, tree: Any, first_power: int) -> _Measure:
    if getattr(tree, "data", None) == "term":
        left, operator, right = tree.children
        divides = -1 if operator == "/" else 1
        return _product(_term(library, left, first_power), _power(_component(library, right), divides))
    measure = _component(library, tree)
    return measure if first_power == 1 else _power(measure, first_power)


def _component(library: _Library, tree: Any) -> _Measure:
    rule = getattr(tree, "data", None)
    if rule is None:
        return _Measure(Fraction(1))  # an annotation on its own, `{score}`, is the number one
    if rule == "component":
        return _component(library, tree.children[0])
    if rule == "main_term":
        return _main_term(library, tree)
    if rule == "annotatable":
        return _power(_component(library, tree.children[0]), int(tree.children[1]))
    if rule == "term":
        return _term(library, tree, 1)
    *prefix, atom = tree.children
    if atom.type == "FACTOR":
        return _Measure(Fraction(int(atom)))
    measure = _atom(library, str(atom))
    if not prefix:
        return measure
    return _Measure(measure.factor * library.prefixes[str(prefix[0])], measure.powers, measure.zero)


def _atom(library: _Library, code: str) -> _Measure:
    known = library.measures.get(code)
    if known is None:
        known = library.measures[code] = _defined(library, code)
    return known


def _defined(library: _Library, code: str) -> _Measure:
    row = library.units[code]
    value = row.find("{*}value")
    function = value.find("{*}function")
    if function is not None:
        zero = _ZERO_POINTS_K.get(function.attrib["name"])
        if zero is None:
            return _own_base(code)
        scale = _scaled(library, function.attrib)
        return _Measure(scale.factor, scale.powers, zero)
    if row.get("isArbitrary") == "yes" and value.attrib["Unit"] == "1":
        return _own_base(code)
    return _scaled(library, value.attrib)


def _scaled(library: _Library, definition: Any) -> _Measure:
    measure = _main_term(library, library.parse(definition["Unit"]))
    return _Measure(measure.factor * Fraction(definition["value"]), measure.powers)


def _product(left: _Measure, right: _Measure) -> _Measure:
    _refuse_offset(left)
    _refuse_offset(right)
    powers = dict(left.powers)
    for base, power in right.powers:
        powers[base] = powers.get(base, 0) + power
    return _Measure(left.factor * right.factor, tuple(sorted((b, p) for b, p in powers.items() if p)))


def _power(measure: _Measure, exponent: int) -> _Measure:
    if exponent == 1:
        return measure
    _refuse_offset(measure)
    if abs(exponent) > _MAX_EXPONENT:
        raise _NotUcum
    return _Measure(measure.factor**exponent, tuple((base, power * exponent) for base, power in measure.powers))


def _refuse_offset(measure: _Measure) -> None:
    if measure.zero is not None:
        raise _NotUcum


@lru_cache(maxsize=4096)
def name_of(code: str) -> str:
    """A unit in words (`milligram per deciliter`); empty where the code is not UCUM, or has no word of its own."""
    if _conversion_of(code) is None:
        return ""
    library = _library()
    with library.lock:
        return _words(library, library.parse(code))


def _words(library: _Library, tree: Any) -> str:
    rule = getattr(tree, "data", None)
    match rule:
        case None:
            return str(tree).strip("{}")
        case "component":
            return _words(library, tree.children[0])
        case "main_term":
            first = _words(library, tree.children[-1])
            return f"per {first}" if len(tree.children) == 2 else first
        case "term":
            left, operator, right = tree.children
            sign = " per " if operator == "/" else " "
            return f"{_words(library, left)}{sign}{_words(library, right)}"
        case "annotatable":
            return f"{_words(library, tree.children[0])}^{tree.children[1]}"
    *prefix, atom = tree.children
    return "".join((*(library.names.get(f"{p}-", str(p)) for p in prefix), library.names.get(str(atom), str(atom))))
