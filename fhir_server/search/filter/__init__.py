"""`_filter`: one expression in place of many parameters. `grammar` reads it, `build` turns it into predicates.

Spec: https://hl7.org/fhir/R4/search_filter.html
"""
