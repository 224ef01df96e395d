"""The table that functions enter themselves into, and what a call of one is made of.

Most functions see their input and arguments as collections (`collections`), or a single string or number (`strings`,
`numbers` have decorators of their own on top of it). Those whose arguments are evaluated once per item, or not at all,
are given the closures (`builder`); if they answer a question, they give a truth (`condition`), which saves a
collection per call.

Spec: http://hl7.org/fhirpath/N1/#functions
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

from fhir_server.fhirpath.evaluation import Context, Evaluate, Truth
from fhir_server.fhirpath.items import Items
from fhir_server.fhirpath.nodes import Node

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Site:
    """One call: its compiled input, and its arguments, which are compiled as the function asks for them.

    `reads_index` tells whether an argument reads `$index`, which must then be kept up.
    """

    source: Evaluate
    nodes: tuple[Node, ...]
    evaluate: Callable[[Node], Evaluate]
    truth: Callable[[Node], Truth]
    reads_index: bool

    def arguments(self) -> list[Evaluate]:
        """All arguments as functions to collections."""
        return [self.evaluate(node) for node in self.nodes]


#: Compile a call: to a collection, or to an answer.
Build = Callable[[Site], Evaluate]
Ask = Callable[[Site], Truth]


@dataclass(frozen=True, slots=True)
class Function:
    """A function with the number of arguments it takes, and how a call of it is compiled; one of the two is given."""

    name: str
    least: int
    most: int
    build: Build | None = None
    condition: Ask | None = None


FUNCTIONS: dict[str, Function] = {}


def builder(name: str, least: int = 0, most: int | None = None) -> Callable[[Build], Build]:
    """Enter a function that compiles its own calls."""

    def enter(build: Build) -> Build:
        FUNCTIONS[name] = Function(name, least, least if most is None else most, build=build)
        return build

    return enter


def condition(name: str, least: int = 0, most: int | None = None) -> Callable[[Ask], Ask]:
    """Enter a function that compiles its calls to a question."""

    def enter(build: Ask) -> Ask:
        FUNCTIONS[name] = Function(name, least, least if most is None else most, condition=build)
        return build

    return enter


def collections(
    name: str, least: int = 0, most: int | None = None
) -> Callable[[Callable[Concatenate[Context, Items, P], Items]], Callable[Concatenate[Context, Items, P], Items]]:
    """Enter a function from its input and its arguments, all evaluated, to a collection."""

    def enter(
        apply: Callable[Concatenate[Context, Items, P], Items],
    ) -> Callable[Concatenate[Context, Items, P], Items]:
        call: Callable[..., Items] = apply
        FUNCTIONS[name] = Function(name, least, least if most is None else most, build=lambda site: applied(call, site))
        return apply

    return enter


def applied(apply: Callable[..., Items], site: Site) -> Evaluate:
    """The call of a function on evaluated collections."""
    source = site.source
    arguments = site.arguments()
    match arguments:
        case []:
            return lambda focus, context: apply(context, source(focus, context))
        case [first]:
            return lambda focus, context: apply(context, source(focus, context), first(focus, context))
    return lambda focus, context: apply(
        context, source(focus, context), *[argument(focus, context) for argument in arguments]
    )
