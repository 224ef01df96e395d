"""FHIR's interactions without a web framework: one module each, named as the specification names it.

Spec: https://hl7.org/fhir/R4/http.html
"""
