"""The other formats of FHIR R4: XML and newline-delimited JSON, made from and into the JSON that all else works on."""
