"""From a signed prescription to what the patient has in hand: pharmacies pull, claim, dispense and close.

Spec: https://hl7.org/fhir/R4/task.html, https://hl7.org/fhir/R4/medicationdispense.html; the shape is that of IHE MPD
(the request is changed by its prescriber alone, the work has its state in `Task.businessStatus`)
"""
