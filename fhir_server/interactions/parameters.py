"""What goes into an operation, and what comes out.

Spec: https://hl7.org/fhir/R4/operations.html, https://hl7.org/fhir/R4/parameters.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request

Json = dict[str, Any]

#: Spoken about by the HTTP layer.
PRESENTATION = frozenset({"_format", "_pretty"})


class Inputs:
    """The parameters of a call, from the query, from a Parameters resource, or a resource sent by itself.

    Values are as in JSON: text from a query, whatever type the client chose in a Parameters resource.
    """

    def __init__(self, rows: list[tuple[str, Any]]) -> None:
        self._rows = rows

    @classmethod
    def of(cls, request: Request, *, bare: str = "resource") -> Inputs:
        """Read a request; a body that is no Parameters resource becomes the parameter `bare`.

        Raises:
            InvalidError: 400; the body is no resource, or a row of Parameters has no name or not one value.
        """
        rows: list[tuple[str, Any]] = list(request.parameters)
        if request.method == "POST" and request.body.strip():
            body = codec.decode(request.body)
            if type(body) is not dict or "resourceType" not in body:
                raise InvalidError(
                    "The body is no resource; Parameters, or the resource itself, was expected.",
                    code="structure",
                    key="HS-OP-BODY",
                )
            rows += rows_of(body) if body["resourceType"] == "Parameters" else [(bare, body)]
        return cls(rows)

    def all(self, name: str) -> list[Any]:
        return [value for found, value in self._rows if found == name]

    def only(self, *names: str) -> None:
        """Refuse what an operation does not know: a mistyped parameter that is ignored changes the answer unseen.

        Raises:
            InvalidError: 400; there is a parameter of another name.
        """
        for name, _ in self._rows:
            if name not in names and name not in PRESENTATION:
                near = get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise InvalidError(
                    f"The operation has no parameter {name[:80]!r}.{hint} It has: {', '.join(names)}.",
                    code="not-supported",
                    expression=f"Parameters.parameter.where(name='{name[:80]}')",
                    key="HS-OP-UNKNOWN",
                )

    def pairs(self, *, without: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
        """The parameters as a query has them.

        Raises:
            InvalidError: 400; one is neither text nor a number nor a boolean.
        """
        rows = [(name, value) for name, value in self._rows if name not in without]
        for name, value in rows:
            if type(value) is dict or type(value) is list:
                raise wrong(name, value, "text, as in a query,")
        return [(name, str(value).lower() if type(value) is bool else str(value)) for name, value in rows]

    def one(self, name: str) -> Any:
        """The value of a parameter that is given at most once; None when it is not.

        Raises:
            InvalidError: 400; it is given several times.
        """
        values = self.all(name)
        if len(values) > 1:
            raise InvalidError(
                f"The parameter {name!r} is given {len(values)} times; once was expected.",
                expression=f"Parameters.parameter.where(name='{name}')",
                key="HS-OP-PARAMETER",
            )
        return values[0] if values else None

    def text(self, name: str) -> str | None:
        """A parameter that is text."""
        value: str | None = self._typed(name, str)
        return value

    def choice(self, name: str, codes: Collection[str]) -> str | None:
        """A parameter that is one of some codes.

        Raises:
            InvalidError: 400; it is none of them.
        """
        value = self.text(name)
        if value is not None and value not in codes:
            raise wrong(name, value, f"one of {', '.join(codes)}")
        return value

    def resource(self, name: str) -> Json | None:
        """A parameter that is a resource or a complex value."""
        value: Json | None = self._typed(name, dict)
        return value

    def whole(self, name: str, *, least: int = 0) -> int | None:
        """A parameter that is a whole number, from a query or a Parameters resource.

        Raises:
            InvalidError: 400; it is none, or below `least`.
        """
        value = self.one(name)
        if value is None:
            return None
        text = str(value)
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise wrong(name, value, f"a whole number of at least {least}")
        return int(text)

    def flag(self, name: str) -> bool:
        """A parameter that is a boolean; False when it is not given."""
        value = self.one(name)
        if value in (True, False, "true", "false", None):
            return value in (True, "true")
        raise wrong(name, value, "true or false")

    def required(self, name: str, value: Any) -> Any:
        """The value, which must have been given.

        Raises:
            InvalidError: 400; it was not.
        """
        if value is None:
            raise InvalidError(
                f"The parameter {name!r} is missing.",
                code="required",
                expression=f"Parameters.parameter.where(name='{name}')",
                key="HS-OP-PARAMETER",
            )
        return value

    def _typed(self, name: str, kind: type) -> Any:
        value = self.one(name)
        if value is not None and type(value) is not kind:
            raise wrong(name, value, "a string" if kind is str else "a resource or object")
        return value


def wrong(name: str, found: object, expected: str) -> InvalidError:
    """What is said of a parameter whose value means nothing."""
    return InvalidError(
        f"The parameter {name!r} is {str(found)[:60]!r}; {expected} was expected.",
        code="value",
        expression=f"Parameters.parameter.where(name='{name}')",
        key="HS-OP-PARAMETER",
    )


def rows_of(parameters: Json) -> list[tuple[str, Any]]:
    """Each parameter's name and value; one with parts becomes a list of such pairs."""
    return list(_rows_of(parameters.get("parameter"), "Parameters.parameter"))


def _rows_of(found: Any, path: str) -> Iterator[tuple[str, Any]]:
    for index, row in enumerate(found if type(found) is list else []):
        place = f"{path}[{index}]"
        if type(row) is not dict or type(row.get("name")) is not str:
            raise InvalidError(
                "A parameter has no name.", code="required", expression=f"{place}.name", key="HS-OP-PARAMETER"
            )
        if "part" in row:
            yield row["name"], list(_rows_of(row["part"], f"{place}.part"))
            continue
        values = [value for key, value in row.items() if key == "resource" or key.startswith("value")]
        if len(values) != 1:
            raise InvalidError(
                f"The parameter {row['name']!r} has {len(values)} values; one was expected.",
                expression=place,
                key="HS-OP-PARAMETER",
            )
        yield row["name"], values[0]


def parameters_of(*rows: Json) -> Json:
    """A Parameters resource; the rows are `{"name": …, "valueX" | "resource" | "part": …}`."""
    return {"resourceType": "Parameters", "parameter": list(rows)} if rows else {"resourceType": "Parameters"}


def answered(resource: Json, status: int = 200) -> Answer:
    return Answer(status, codec.encode(resource))
