"""From who somebody is to what they may see and change: scopes, roles, relations, consents, labels, broken glass.

Nothing here enforces anything. `policies.Policies` makes the `AccessPolicy` of an `Identity`; the store that holds to
it is `fhir_server.access`. What the roles say stands in one file for people, `roles.toml`; docs/access.md explains it.
"""
