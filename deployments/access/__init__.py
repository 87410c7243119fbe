"""Who may do what: keys, tokens, scopes, limits, and the record of who changed what."""
