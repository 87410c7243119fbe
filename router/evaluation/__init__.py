"""Measuring routers on labelled requests."""
