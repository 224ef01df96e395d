"""Checks of primitive values: JSON type, format, range, and dates that exist.

Each check is one function over the JSON value; None says that it is right. What real data holds is decided by string
methods or one linear regular expression; only what they do not clear is looked at closely.

Spec: https://hl7.org/fhir/R4/datatypes.html#primitive, https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from calendar import monthrange
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.validation.fault import Check, Fault, Found, shown, wrong_type

#: "strings SHALL NOT exceed 1MB (1024*1024 characters) in size"
MAX_STRING = 1024 * 1024
#: Far beyond any measurement, and short of what would make arithmetic or an index dear.
MAX_DIGITS = 100
MAX_EXPONENT = 400

FORBIDDEN_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
#: White space is that of XML here: a no-break space is a character like others (HL7's own v2 tables have such codes).
CODE = re.compile("[^ \t\r\n]+(?: [^ \t\r\n]+)*")
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
WHITE_SPACE = re.compile(r"\s+")

_YEAR = r"(?!0000)[0-9]{4}"
_DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
_MONTH = r"(?:0[1-9]|1[0-2])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
DATE = re.compile(rf"{_YEAR}(?:-{_MONTH}(?:-{_DAY})?)?")
DATE_TIME = re.compile(rf"{_YEAR}(?:-{_MONTH}(?:-{_DAY}(?:T{_CLOCK}{_ZONE})?)?)?")
INSTANT = re.compile(rf"{_YEAR}-{_MONTH}-{_DAY}T{_CLOCK}{_ZONE}")
TIME = re.compile(_CLOCK)


def boolean(value: Any) -> Found:
    return None if value is True or value is False else wrong_type(value, "true or false")


def string(value: Any) -> Found:
    """Text: not empty, no control characters but tab, carriage return and line feed, at most 1,048,576 characters."""
    if type(value) is str and value.isprintable() and value and not value.isspace() and len(value) <= MAX_STRING:
        return None
    if type(value) is not str or not value:
        return wrong_type(value, "a string")
    if len(value) > MAX_STRING:
        return _refused("STRING", value, f"at most {MAX_STRING} characters, not {len(value)}")
    if (bad := FORBIDDEN_CHARACTER.search(value)) is not None:
        return [
            Fault(
                "HS-VAL-CHARACTER",
                "value",
                f"Found the character U+{ord(bad.group()):04X} at position {bad.start()}; "
                "expected text without control characters (but tab, CR, LF) and without lone surrogates.",
            )
        ]
    if value.isspace():
        # "strings SHOULD always contain non-whitespace content": advice, so the resource stays valid.
        text = "Found only white space; expected text, since white space may be trimmed to nothing."
        return [Fault("HS-VAL-BLANK", "value", text, severity="warning")]
    return None


def uri(value: Any) -> Found:
    """A uri, url or canonical: no white space, no control characters."""
    if type(value) is str and value.isprintable() and value and " " not in value:
        return None
    if type(value) is not str or not value:
        return wrong_type(value, "a string with a URI")
    return _refused("URI", value, "a URI: no white space, no control characters")


def element_id(value: Any) -> Found:
    """The id of an element (not of a resource): any string without white space."""
    if type(value) is str and value.isprintable() and value and " " not in value:
        return None
    if type(value) is not str or not value:
        return wrong_type(value, "a string with an element id")
    return _refused("ELEMENT-ID", value, "an element id: no white space, no control characters")


def code(value: Any) -> Found:
    """A code: no white space before or after, single spaces within."""
    if type(value) is str and value.isprintable() and value and " " not in value:
        return None
    if type(value) is not str or not value:
        return wrong_type(value, "a string with a code")
    if CODE.fullmatch(value) and not FORBIDDEN_CHARACTER.search(value):
        return None
    return _refused("CODE", value, "a code: no white space around it, single spaces within")


def _matching(pattern: re.Pattern[str], name: str, expected: str) -> Check:
    fullmatch = pattern.fullmatch

    def check(value: Any) -> Found:
        if type(value) is str and fullmatch(value) is not None:
            return None
        if type(value) is not str or not value:
            return wrong_type(value, f"a string with {expected}")
        return _refused(name, value, expected)

    return check


def _calendar(pattern: re.Pattern[str], name: str, expected: str) -> Check:
    fullmatch = pattern.fullmatch

    def check(value: Any) -> Found:
        if type(value) is str and fullmatch(value) is not None:
            if value[8:10] > "28" and int(value[8:10]) > monthrange(int(value[:4]), int(value[5:7]))[1]:
                return _refused(name, value, f"a day that exists in month {value[:7]}")
            return None
        if type(value) is not str or not value:
            return wrong_type(value, f"a string with {expected}")
        return _refused(name, value, expected)

    return check


def decimal(value: Any) -> Found:
    """An exact number. A binary float has lost digits already and is refused."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            return _refused("DECIMAL", value, "a finite number")
        digits, places = len(value.as_tuple().digits), value.adjusted()
    elif type(value) is int:
        digits, places = value.bit_length() * 3 // 10, 0
    else:
        return wrong_type(value, "a decimal number")
    if digits <= MAX_DIGITS and -MAX_EXPONENT <= places <= MAX_EXPONENT:
        return None
    return _refused("DECIMAL", value, f"at most {MAX_DIGITS} digits and powers of ten up to {MAX_EXPONENT}")


def _whole(lowest: int, name: str) -> Check:
    expected = f"a whole number from {lowest} to 2147483647"

    def check(value: Any) -> Found:
        if type(value) is int and lowest <= value <= 2147483647:
            return None
        if type(value) is int:
            return _refused(name, value, expected)
        return wrong_type(value, expected)

    return check


def base64_binary(value: Any) -> Found:
    """Base64 as RFC 4648 section 4 has it, white space allowed; one pass, whatever the size."""
    if type(value) is not str or not value:
        return wrong_type(value, "a string with base64 data")
    text = value if value.isprintable() and " " not in value else WHITE_SPACE.sub("", value)
    # Strict mode lets padding pass that follows a whole group of four.
    if not text or len(text) % 4 or text.find("=", 0, -2) != -1:
        return _refused("BASE64", value, "base64 data in groups of four, padded with = at the end only")
    try:
        a2b_base64(text, strict_mode=True)
    except ValueError as error:
        return _refused("BASE64", value, f"base64 data ({error})")
    return None


def _refused(name: str, value: Any, expected: str) -> list[Fault]:
    return [Fault(f"HS-VAL-{name}", "value", f"Found {shown(value)}; expected {expected}.")]


CHECKS: dict[str, Callable[[Any], Found]] = {
    "base64Binary": base64_binary,
    "boolean": boolean,
    "canonical": uri,
    "code": code,
    "date": _calendar(DATE, "DATE", "a date: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": _calendar(
        DATE_TIME, "DATETIME", "a dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with Z or ±hh:mm"
    ),
    "decimal": decimal,
    "id": _matching(ID, "ID", "an id: 1 to 64 letters, digits, '-' or '.'"),
    "instant": _calendar(INSTANT, "INSTANT", "an instant: YYYY-MM-DDThh:mm:ss.sss with Z or ±hh:mm"),
    "integer": _whole(-2147483648, "INTEGER"),
    "markdown": string,
    "oid": _matching(OID, "OID", "an OID: urn:oid:1.2.3"),
    "positiveInt": _whole(1, "POSITIVE-INT"),
    "string": string,
    "time": _matching(TIME, "TIME", "a time: hh:mm:ss, 00 to 23 hours"),
    "unsignedInt": _whole(0, "UNSIGNED-INT"),
    "uri": uri,
    "url": uri,
    "uuid": _matching(UUID, "UUID", "a UUID in lower case: urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
}
