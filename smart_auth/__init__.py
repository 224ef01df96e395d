"""Who may call the server. It sees nothing of the FHIR server above its model; only the composition root sees it."""
