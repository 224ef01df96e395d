"""FHIRPath: parsed to a typed tree, compiled against the element tables to closures.

`compile.compiled` is what search uses: it knows, before any resource is seen, which members an expression reads and of
which FHIR type its values are.

Spec: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""
