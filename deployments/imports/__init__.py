"""Nodes made from what a service says of itself: an OpenAPI document, or a Model Context Protocol server's tools."""
