"""The one door to data: read, history, search, commit. All access rules and every change of a resource pass here."""
