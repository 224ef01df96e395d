"""The specification's own examples: which of them define FHIR itself, and which are clinical or administrative."""

#: Types whose examples are definitions; all others are clinical or administrative.
DEFINITIONAL = frozenset(
    {
        "CapabilityStatement",
        "CodeSystem",
        "CompartmentDefinition",
        "ConceptMap",
        "ImplementationGuide",
        "OperationDefinition",
        "SearchParameter",
        "StructureDefinition",
        "StructureMap",
        "ValueSet",
    }
)
