"""The tree that an expression is parsed to.

Nodes are frozen, so two equal expressions are equal trees and can be shared and counted. `at` is where a node's own
words start in the text, counted in characters from 0; it tells a place and does not count when nodes are compared.

Spec: http://hl7.org/fhirpath/N1/#formal-specifications
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: a string, a number, a boolean; `None` is the empty collection `{}`."""

    value: str | bool | int | Decimal | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, time or dateTime literal, without its `@`."""

    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A quantity literal: `10 'mg'`, or with a word for its unit `4 days`; `is_calendar` tells the two apart."""

    value: int | Decimal
    unit: str
    is_calendar: bool


@dataclass(frozen=True, slots=True)
class This:
    """`$this`, `$index` or `$total`."""

    name: str


@dataclass(frozen=True, slots=True)
class External:
    """`%resource`, `%context`, `%ucum` and the like, without the percent sign."""

    name: str
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Member:
    """`source.name`; without a source the name is looked up in the focus, or names the type the path starts from."""

    source: Node | None
    name: str
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`source.name(arguments)`."""

    source: Node | None
    name: str
    arguments: tuple[Node, ...]
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Index:
    """`source[index]`."""

    source: Node
    index: Node
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """`+operand` or `-operand`."""

    operator: str
    operand: Node
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: Node
    right: Node
    at: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TypeOperation:
    """`operand is Type` or `operand as Type`; the functions `is`, `as` and `ofType` are parsed to it as well.

    `operator` is `is`, `as` or `ofType`; `type_name` has its namespace when that is `System`.
    """

    operator: str
    operand: Node
    type_name: str
    at: int = field(default=0, compare=False, repr=False)


Node = Literal | Moment | Measured | This | External | Member | Call | Index | Unary | Binary | TypeOperation
