"""Health logs: what patients and their devices measure, held to what makes it usable, and charts of it."""
