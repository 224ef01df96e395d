"""What resource types mean on this server: booking, prescribing, talking, and the rules that go with them.

A package per behaviour, each with a `PART` that `resources.parts` lists and `fhir_server.app` joins to the server.
"""
