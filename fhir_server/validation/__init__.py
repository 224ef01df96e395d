"""Validation of resources against the definitions of FHIR R4.

Spec: https://hl7.org/fhir/R4/validation.html
"""

from fhir_server.validation.validator import Validator

__all__ = ["Validator"]
