"""Conversion: to the types of FHIRPath; what cannot be converted is empty.

Spec: http://hl7.org/fhirpath/N1/#conversion
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from fhir_server.fhirpath import quantities
from fhir_server.fhirpath.arithmetic import MAX_INTEGER
from fhir_server.fhirpath.equality import quantity_in
from fhir_server.fhirpath.evaluation import Context, Evaluate
from fhir_server.fhirpath.functions.table import Site, builder, collections
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, boolean
from fhir_server.fhirpath.kinds import BOOLEAN, DATE, DATE_TIME, DECIMAL, INTEGER, QUANTITY, STRING, TIME, Kind
from fhir_server.fhirpath.quantities import Quantity, calendar_quantity
from fhir_server.fhirpath.temporal import temporal_of

_TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,60}(?:\.\d{1,60})?", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d{1,60}(?:\.\d{1,60})?)\s*(?:'([^']+)'|([A-Za-z]+))?", re.ASCII)

#: Numbers with more digits than these are written with an exponent.
_MAX_DIGITS = 1000

Convert = Callable[[Item], Item | None]


@builder("iif", 2, 3)
def iif(site: Site) -> Evaluate:
    """Only the branch that is chosen is evaluated; on an input of its own that is `$this`, which must be single."""
    source, criterion = site.source, site.evaluate(site.nodes[0])
    then = site.evaluate(site.nodes[1])
    otherwise = site.evaluate(site.nodes[2]) if len(site.nodes) > 2 else None

    def evaluate(focus: Items, context: Context) -> Items:
        items = source(focus, context)
        if len(items) > 1:
            raise Fault(f"iif() needs a single item as its input, found {len(items)}")
        found = criterion(items, context)
        if len(found) > 1 or (found and found[0].kind.system != "Boolean"):
            raise Fault("the criterion of iif() must be one boolean")
        if found and found[0].value is True:
            return then(items, context)
        return otherwise(items, context) if otherwise else EMPTY

    return evaluate


def to_boolean(item: Item) -> Item | None:
    value = item.value
    if item.kind.system == "Boolean":
        truth: bool | None = value
    elif item.kind.system in ("Integer", "Decimal"):
        truth = {0: False, 1: True}.get(value)
    else:
        truth = _TRUTHS.get(value.lower()) if item.kind.system == "String" else None
    return None if truth is None else Item(truth, BOOLEAN)


def to_integer(item: Item) -> Item | None:
    value = item.value
    if item.kind.system == "Integer":
        return Item(value, INTEGER)
    if item.kind.system == "Boolean":
        return Item(int(value), INTEGER)
    if item.kind.system == "String" and _INTEGER.fullmatch(value) and -MAX_INTEGER - 1 <= int(value) <= MAX_INTEGER:
        return Item(int(value), INTEGER)
    return None


def to_decimal(item: Item) -> Item | None:
    value = item.value
    if item.kind.system in ("Integer", "Decimal"):
        return Item(Decimal(value), DECIMAL)
    if item.kind.system == "Boolean":
        return Item(Decimal(int(value)), DECIMAL)
    if item.kind.system == "String" and _DECIMAL.fullmatch(value):
        return Item(Decimal(value), DECIMAL)
    return None


def text_of(item: Item) -> str | None:
    """What toString() says; None for what has no text."""
    value = item.value
    match item.kind.system:
        case "Boolean":
            return "true" if value else "false"
        case "Integer":
            return str(value)
        case "Decimal":
            number = Decimal(value)
            return f"{number:f}" if abs(number.adjusted()) < _MAX_DIGITS else str(number)
        case "Quantity":
            quantity = quantity_in(item)
            return None if quantity is None else quantity.text
        case None:
            return None
    return str(value)


def to_string(item: Item) -> Item | None:
    text = text_of(item)
    return None if text is None else Item(text, STRING)


def _to_moment(kind: Kind, sources: tuple[str, ...]) -> Convert:
    def convert(item: Item) -> Item | None:
        if item.kind.system not in sources:
            return None
        text = item.value
        # A date may be cut from the text of a dateTime.
        system = "DateTime" if kind is DATE else kind.name
        if temporal_of(text, system) is None:
            return None
        return Item(text.split("T")[0] if kind is DATE else text.removeprefix("T"), kind)

    return convert


def to_quantity(item: Item) -> Item | None:
    if item.kind.system == "Boolean":
        return Item(Quantity(Decimal(int(item.value))), QUANTITY)
    quantity = _quantity_in(item.value) if item.kind.system == "String" else quantity_in(item)
    return None if quantity is None else Item(quantity, QUANTITY)


def _quantity_in(text: str) -> Quantity | None:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, word = found.groups()
    return calendar_quantity(Decimal(number), word) if word else Quantity(Decimal(number), unit or "1")


CONVERSIONS: dict[str, Convert] = {
    "Boolean": to_boolean,
    "Integer": to_integer,
    "Decimal": to_decimal,
    "String": to_string,
    "Date": _to_moment(DATE, ("Date", "DateTime", "String")),
    "DateTime": _to_moment(DATE_TIME, ("Date", "DateTime", "String")),
    "Time": _to_moment(TIME, ("Time", "String")),
    "Quantity": to_quantity,
}


def _converted(convert: Convert, items: Items) -> Item | None:
    if len(items) > 1:
        raise Fault(f"a conversion needs a single item, found {len(items)}")
    return convert(items[0]) if items and items[0].value is not None else None


def _enter(name: str, convert: Convert) -> None:
    @collections(f"to{name}", 0, 1 if name == "Quantity" else 0)
    def to_type(context: Context, items: Items, unit: Items = EMPTY) -> Items:
        found = _converted(convert, items)
        if found is None or not unit:
            return [] if found is None else [found]
        return _in_unit(context, found, unit)

    @collections(f"convertsTo{name}", 0, 1 if name == "Quantity" else 0)
    def converts_to_type(context: Context, items: Items, unit: Items = EMPTY) -> Items:
        return boolean(bool(to_type(context, items, unit))) if items else EMPTY


def _in_unit(context: Context, found: Item, unit: Items) -> Items:
    wanted = unit[0].value
    calendar = calendar_quantity(Decimal(0), wanted)
    code = wanted if calendar is None else calendar.code
    value = None if code is None else quantities.converted(found.value, code, context.units)
    if value is None:
        return EMPTY
    return [Item(Quantity(value, wanted if calendar is None else calendar.unit, calendar is not None), QUANTITY)]


for _name, _convert in CONVERSIONS.items():
    _enter(_name, _convert)
