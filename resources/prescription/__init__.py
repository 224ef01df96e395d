"""Prescriptions: their states, who changes them, what is checked before they are signed, and the signature.

Spec: https://hl7.org/fhir/R4/medicationrequest.html, https://hl7.org/fhir/R4/detectedissue.html,
https://hl7.org/fhir/R4/signatures.html
"""
