"""Patches: JSON Patch, FHIRPath Patch and XML Patch, each a function from a resource to the resource that it becomes.

A patch is read once and can be applied any number of times, to whatever is current then. The resource that it is
applied to is never changed; all operations take effect, or an error tells which one did not.

Spec: https://hl7.org/fhir/R4/http.html#patch
"""
