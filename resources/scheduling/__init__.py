"""Scheduling: when somebody has time, and who takes it.

Spec: https://profiles.ihe.net/ITI/Scheduling/, https://hl7.org/fhir/R4/appointment.html
"""

from resources.scheduling.part import PART

__all__ = ["PART"]
