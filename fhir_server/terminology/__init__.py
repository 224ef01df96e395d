"""Terminology: what code systems, value sets and concept maps say, wherever they come from.

A value set is worked with as conditions, one for each code system that it draws on (`compose`, `conditions`). A code
system that is small answers them in memory (`memory`), a big one by the database (`big`). `engine` finds what is held.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""
