"""Strategies: ways to score nodes for a request."""
