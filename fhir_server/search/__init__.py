"""Search: text to a typed query, a query to one filter; and the index entries that a resource leaves for it.

Spec: https://hl7.org/fhir/R4/search.html
"""
