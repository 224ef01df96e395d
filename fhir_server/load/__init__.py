"""`healthsphere load`: send files of FHIR resources into a running server, over HTTP.

It is a client: it knows a base URL and FHIR, nothing of the server's insides, and works with other FHIR servers too.

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/nd-json.html
"""

from fhir_server.load.options import DEFAULT_BASE_URL, LoadOptions, LoadReport
from fhir_server.load.run import run

__all__ = ["DEFAULT_BASE_URL", "LoadOptions", "LoadReport", "run"]
