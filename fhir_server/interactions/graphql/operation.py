"""`$graphql`, of the server and of one resource.

Spec: http://hl7.org/fhir/R4/graphql.html, https://hl7.org/fhir/R4/resource-operation-graphql.html
"""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_server.interactions.context import Context
from fhir_server.interactions.graphql.document import query_of
from fhir_server.interactions.graphql.execute import Executor
from fhir_server.interactions.graphql.fault import QueryError, refused
from fhir_server.interactions.graphql.reach import Reach
from fhir_server.interactions.parameters import rows_of
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, outcome_of
from fhir_server.model.exchange import Answer, Request

Json = dict[str, Any]
GRAPHQL_TYPE = "application/graphql"


async def graphql(context: Context, request: Request) -> Answer:
    """$graphql, [type]/[id]/$graphql: `data` as the query asks, and `errors` for what could not be had.

    A query that cannot be carried out at all answers with errors alone, and with the status that they deserve.
    """
    reach = Reach(context, request.base_url)
    answer: Json = {}
    status = 200
    try:
        text, variables, operation_name = asked_of(request)
        query = query_of(text, variables, operation_name)
        executor = Executor(query, reach, context.registry)
        if len(request.path) == 3:
            data = await executor.instance(await reach.read(request.path[0], request.path[1]))
        else:
            data = await executor.system()
        answer["data"] = data
        if executor.errors:
            answer["errors"] = [error.as_json() for error in executor.errors]
    except QueryError as error:
        answer, status = {"errors": [error.as_json()]}, error.cause.status
    except FhirError as error:
        answer, status = {"errors": [QueryError(error).as_json()]}, error.status
    finally:
        reach.close()
    if reach.warnings:
        answer["extensions"] = {"resource": outcome_of(reach.warnings)}
    return Answer(status, codec.encode(answer))


def asked_of(request: Request) -> tuple[str, Json, str | None]:
    """The query, its variables and the operation meant: from the address, or from the body in one of its forms."""
    given: Json = dict(request.parameters)
    body = request.body.strip()
    if request.method == "POST" and body:
        if request.content_type == GRAPHQL_TYPE:
            given["query"] = body.decode("utf-8", "replace")
        else:
            document = codec.decode(body)
            if type(document) is not dict:
                raise refused("The body is no object with `query`, `variables` and `operationName`.")
            is_fhir = document.get("resourceType") == "Parameters"
            given |= dict(rows_of(document)) if is_fhir else document
    text, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
    if type(text) is not str or not text.strip():
        raise refused("The query is missing: give `query`, a GraphQL document.")
    if type(variables) is str and variables:
        try:
            variables = msgspec.json.decode(variables)
        except msgspec.DecodeError:
            raise refused("`variables` is no JSON object.") from None
    if variables is not None and variables != "" and type(variables) is not dict:
        raise refused("`variables` is no JSON object.")
    return text, variables or {}, name if type(name) is str and name else None
