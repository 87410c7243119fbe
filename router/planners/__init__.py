"""Planners: ways to turn a request into a plan."""
