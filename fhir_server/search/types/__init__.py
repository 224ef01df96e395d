"""The types of search parameters: each module reads the values of one type and writes the conditions for them.

A condition is a MongoDB filter on the index entries in one field. Strings are compared by equality or by ranges that an
index can walk; a pattern is used where only a pattern will do (`:contains`).

Spec: https://hl7.org/fhir/R4/search.html#ptypes
"""
