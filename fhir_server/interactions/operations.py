"""The operations of this server, beside the table of interactions.

`dispatch`, the CapabilityStatement and the documentation read this table.

Spec: https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from fhir_server.interactions.access_ledger import access_ledger
from fhir_server.interactions.break_glass import break_glass, mend_glass
from fhir_server.interactions.closure import closure
from fhir_server.interactions.convert import convert
from fhir_server.interactions.diff import diff
from fhir_server.interactions.docref import docref
from fhir_server.interactions.document import document
from fhir_server.interactions.everything import everything
from fhir_server.interactions.expand import expand
from fhir_server.interactions.graphql.operation import graphql
from fhir_server.interactions.lastn import lastn
from fhir_server.interactions.lookup import lookup
from fhir_server.interactions.match import match
from fhir_server.interactions.merge import merge
from fhir_server.interactions.meta import meta, meta_add, meta_delete
from fhir_server.interactions.purge import expunge, purge, purge_status
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.reindex import reindex
from fhir_server.interactions.stats import stats
from fhir_server.interactions.subsumes import subsumes
from fhir_server.interactions.translate import translate
from fhir_server.interactions.unmerge import unmerge
from fhir_server.interactions.validate import validate
from fhir_server.interactions.validate_code import validate_code
from fhir_server.interactions.versions import versions

CORE = "http://hl7.org/fhir/OperationDefinition"
US_CORE = "http://hl7.org/fhir/us/core/OperationDefinition"

#: Operations of this server alone, and those that do less than the specification's, which then have to have definitions
#: of their own (CapabilityStatement.rest.resource.operation.definition). They are in `profiles/definitions`, and
#: read at `OperationDefinition/[id]`.
OWN = "urn:healthsphere:OperationDefinition"

CODES, SETS, MAPS = "CodeSystem", "ValueSet", "ConceptMap"

OPERATIONS: tuple[Operation, ...] = (
    Operation("validate", f"{CORE}/Resource-validate", validate, type=True, instance=True, touches=False),
    Operation("meta", f"{OWN}:meta", meta, instance=True),
    Operation("meta-add", f"{CORE}/Resource-meta-add", meta_add, instance=True, affects_state=True),
    Operation("meta-delete", f"{CORE}/Resource-meta-delete", meta_delete, instance=True, affects_state=True),
    Operation("versions", f"{CORE}/CapabilityStatement-versions", versions, system=True),
    Operation("match", f"{CORE}/Patient-match", match, types=("Patient",), type=True),
    Operation("graphql", f"{CORE}/Resource-graphql", graphql, system=True, instance=True),
    Operation("everything", f"{OWN}:patient-everything", everything, types=("Patient",), instance=True),
    Operation("everything", f"{CORE}/Encounter-everything", everything, types=("Encounter",), instance=True),
    Operation("lastn", f"{CORE}/Observation-lastn", lastn, types=("Observation",), type=True),
    Operation("stats", f"{CORE}/Observation-stats", stats, types=("Observation",), type=True),
    Operation("document", f"{OWN}:document", document, types=("Composition",), type=True, instance=True),
    Operation("docref", f"{US_CORE}/docref", docref, types=("DocumentReference",), type=True),
    Operation("convert", f"{CORE}/Resource-convert", convert, system=True),
    Operation("reindex", f"{OWN}:reindex", reindex, system=True, elevated=True),
    Operation("reindex", f"{OWN}:reindex", reindex, types=("SearchParameter",), instance=True, elevated=True),
    Operation("diff", f"{OWN}:diff", diff, instance=True),
    Operation("merge", f"{OWN}:merge", merge, types=("Patient",), type=True, affects_state=True, elevated=True),
    Operation("unmerge", f"{OWN}:unmerge", unmerge, types=("Patient",), type=True, affects_state=True, elevated=True),
    Operation("purge", f"{OWN}:purge", purge, types=("Patient",), instance=True, affects_state=True, elevated=True),
    Operation("expunge", f"{OWN}:expunge", expunge, type=True, instance=True, affects_state=True, elevated=True),
    Operation("break-glass", f"{OWN}:break-glass", break_glass, system=True, affects_state=True, elevated=True),
    Operation("mend-glass", f"{OWN}:mend-glass", mend_glass, system=True, affects_state=True, elevated=True),
    Operation("access-ledger", f"{OWN}:access-ledger", access_ledger, types=("Patient",), instance=True),
    Operation("lookup", f"{CORE}/CodeSystem-lookup", lookup, types=(CODES,), type=True),
    Operation(
        "validate-code", f"{CORE}/CodeSystem-validate-code", validate_code, types=(CODES,), type=True, instance=True
    ),
    Operation("subsumes", f"{CORE}/CodeSystem-subsumes", subsumes, types=(CODES,), type=True, instance=True),
    Operation("expand", f"{CORE}/ValueSet-expand", expand, types=(SETS,), type=True, instance=True),
    Operation(
        "validate-code", f"{CORE}/ValueSet-validate-code", validate_code, types=(SETS,), type=True, instance=True
    ),
    Operation("translate", f"{CORE}/ConceptMap-translate", translate, types=(MAPS,), type=True, instance=True),
    Operation("closure", f"{CORE}/ConceptMap-closure", closure, system=True, affects_state=True),
    Operation("purge-status", f"{OWN}:purge-status", purge_status, system=True, elevated=True),
)
