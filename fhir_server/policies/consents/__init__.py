"""Patients' Consents (IHE PCF on R4 Consent): which hide what from whom.

`provision` reads a Consent into a tree of rules. `boxes` says which resources a rule is about, in grants. `decide` says
what a tree hides from one reader, and what it opens. `book` holds those of all patients.

**What is not sure hides.** A rule that denies is read as wide as it may be meant, one that permits as narrow: an actor
that cannot be told, an unknown class or an unknown action widens a denial and voids a permission.

Spec: https://hl7.org/fhir/R4/consent.html, https://profiles.ihe.net/ITI/PCF/
"""
