"""A query, read and checked for its size; which operation of it is meant, and what its variables are.

Spec: https://spec.graphql.org/October2021/#sec-Document
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphql.error import GraphQLSyntaxError
from graphql.language import (
    BooleanValueNode,
    DirectiveNode,
    EnumValueNode,
    FloatValueNode,
    FragmentDefinitionNode,
    IntValueNode,
    ListValueNode,
    NonNullTypeNode,
    NullValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    parse,
)

from fhir_server.interactions.graphql.fault import refused, too_costly
from fhir_server.model.errors import NotFoundError

#: What a query may consist of, and how deep its fields may stand in each other once fragments are in their places.
MOST_TOKENS = 10_000
MOST_CHARACTERS = 100_000
MOST_LEVELS = 25


@dataclass(slots=True)
class Query:
    """One operation of a document, ready to be carried out.

    Attributes:
        selections: what it asks of its root
        fragments: the fragments of the document by name
        variables: the values of the variables it declares
    """

    selections: SelectionSetNode
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)

    def value_of(self, node: ValueNode) -> Any:
        """A literal or variable as a plain value; numbers stay as they are written."""
        match node:
            case VariableNode():
                name = node.name.value
                if name not in self.variables:
                    raise refused(f"The variable ${name} is not declared by this operation.", node)
                return self.variables[name]
            case NullValueNode():
                return None
            case ListValueNode():
                return [self.value_of(value) for value in node.values]
            case BooleanValueNode() | StringValueNode() | EnumValueNode() | IntValueNode() | FloatValueNode():
                return node.value
        raise refused("An object is no value of an argument here.", node)

    def is_wanted(self, directives: tuple[DirectiveNode, ...]) -> bool:
        """Whether @skip and @include let a field or fragment stand."""
        for directive in directives:
            name = directive.name.value
            if name in ("skip", "include"):
                condition = self.argument_of(directive, "if")
                if type(condition) is not bool:
                    raise refused(f"@{name} needs `if` with true or false; found {condition!r}.", directive)
                if condition == (name == "skip"):
                    return False
        return True

    def argument_of(self, directive: DirectiveNode, name: str) -> Any:
        return next((self.value_of(a.value) for a in directive.arguments or () if a.name.value == name), None)


def query_of(text: str, variables: dict[str, Any], operation_name: str | None) -> Query:
    """Read a query.

    Raises:
        QueryError: it is no GraphQL, too large, or names no operation that could be carried out.
    """
    if len(text) > MOST_CHARACTERS:
        raise too_costly(f"The query has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read.")
    try:
        document = parse(text, max_tokens=MOST_TOKENS)
    except GraphQLSyntaxError as error:
        place = f" (line {error.locations[0].line}, column {error.locations[0].column})" if error.locations else ""
        raise refused(f"{error.message}{place}") from None
    except RecursionError:
        raise too_costly("The query is nested too deeply.") from None
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    named = [o for o in operations if operation_name is None or (o.name and o.name.value == operation_name)]
    if len(named) != 1:
        found = ", ".join(o.name.value if o.name else "one without a name" for o in operations) or "none"
        wanted = f"{operation_name!r} is" if operation_name else "`operationName` is none"
        raise refused(f"The query has to hold the one operation that is meant: {wanted}; found: {found}.")
    (operation,) = named
    if operation.operation is not OperationType.QUERY:
        raise refused(
            f"This server carries out queries; {operation.operation.value}s are made by FHIR's own interactions.",
            operation,
        )
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    return Query(operation.selection_set, fragments, variables_of(operation, variables))


def variables_of(operation: OperationDefinitionNode, given: dict[str, Any]) -> dict[str, Any]:
    """The declared variables with the values given, or their defaults."""
    values: dict[str, Any] = {}
    for row in operation.variable_definitions or ():
        name = row.variable.name.value
        if name in given:
            values[name] = given[name]
        elif row.default_value is not None:
            values[name] = Query(operation.selection_set).value_of(row.default_value)
        else:
            values[name] = None
        if values[name] is None and isinstance(row.type, NonNullTypeNode):
            raise refused(f"The variable ${name} needs a value.", row)
    return values


def no_fragment(name: str) -> NotFoundError:
    return NotFoundError(f"The query has no fragment {name!r}.", key="HS-GRAPHQL-QUERY")
