"""Kinds of node that come with Modelyard."""
