"""Names of the Serve applications that Modelyard makes."""

from __future__ import annotations

import re

from graph.types import NodeName

GATEWAY = "modelyard"
_NODE = re.compile(r"^node-(?P<name>.+)-v(?P<version>\d+)$")


def node_app(name: NodeName, version: int) -> str:
    """Return the name of the application that serves one version of a node."""
    return f"node-{name}-v{version}"


def parse_node_app(app: str) -> tuple[NodeName, int] | None:
    """Return the node and the version that an application serves; None if it is not a node's."""
    match = _NODE.match(app)
    return (match["name"], int(match["version"])) if match else None


def is_ours(app: str) -> bool:
    """Return whether an application was made by Modelyard."""
    return app == GATEWAY or parse_node_app(app) is not None
