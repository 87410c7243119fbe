"""How strategies learn from labelled rows."""
