"""Contents: what data says of itself, beyond the form that its type gives it.

Units are units, the hash of an attachment is that of its data, the entries of a Bundle are what their addresses say,
answers are those that their questions ask for. `$validate` tells all of it; a policy may have writes held to it.

Spec: https://hl7.org/fhir/R4/validation.html
"""
