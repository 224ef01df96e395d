"""The API as an OpenAPI 3.1 document, made from the table of interactions, the operations and the search parameters.

Spec: https://spec.openapis.org/oas/v3.1.1.html
"""

from fhir_server.http.openapi.document import Described, describe

__all__ = ["Described", "describe"]
