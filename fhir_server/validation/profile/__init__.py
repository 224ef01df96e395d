"""Profiles: StructureDefinitions compiled to checks.

`definition` reads a snapshot as a tree, `compile` makes the checks of it, `slicing` and `discriminators` sort items
into slices, `shelf` holds what is compiled, `gather` and `source` get what it needs from the store, and `validator`
brings them together.

Spec: https://hl7.org/fhir/R4/profiling.html
"""
