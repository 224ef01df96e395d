"""`$graphql`: queries in the language of GraphQL over resources as they are, without a schema to build.

Spec: http://hl7.org/fhir/R4/graphql.html
"""
