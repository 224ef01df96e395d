"""HealthSphere: a FHIR R4 server."""
