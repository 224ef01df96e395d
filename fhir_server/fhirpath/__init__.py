"""FHIRPath: parsed to a typed tree, compiled to closures in two ways.

`expression.compile_expression` knows the whole language and gives items with their types, for invariants, patches and
everything that a client may write. `compile.compiled` is what search uses: it knows, before any resource is seen, which
members an expression reads and of which FHIR type its values are, and covers what search parameters are written in.

Spec: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""
