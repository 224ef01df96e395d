"""Removing resources for good: who they are, what is left where, and the proof that it is gone."""
