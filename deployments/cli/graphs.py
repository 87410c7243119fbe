"""`graph`: the nodes and edges of a running service."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deployments.cli.console import clean, console, styled, write_json, write_table
from deployments.cli.options import DEFAULT_URL, Json, Key, Url
from deployments.cli.session import connect

if TYPE_CHECKING:
    from deployments.client import GraphFormat


class Format(StrEnum):
    """How the graph is written."""

    TABLE = "table"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


_ON_THE_WIRE: Mapping[Format, GraphFormat] = {
    Format.TABLE: "json",
    Format.JSON: "json",
    Format.MERMAID: "mermaid",
    Format.DOT: "dot",
}


def graph(
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.TABLE,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show the graph: nodes, and the edges between them."""
    if as_json:
        format = Format.JSON
    with connect(url, key, as_json) as client:
        found = client.graph(_ON_THE_WIRE[format])
    if format is Format.JSON:
        write_json(found)
    elif format is Format.TABLE:
        write_graph(console(), found if isinstance(found, Mapping) else {})
    else:
        typer.echo(clean(found).rstrip("\n"))


def write_graph(out: Console, graph: Mapping[str, Any]) -> None:
    """Write a table of the nodes and one of the declared edges; those that modalities alone make are counted."""
    nodes = [node for node in graph.get("nodes") or () if isinstance(node, Mapping)]
    rows = [
        (
            styled(node.get("name"), "bold"),
            styled(node.get("kind", "")),
            styled(", ".join(map(str, node.get("accepts") or ()))),
            styled(", ".join(map(str, node.get("produces") or ()))),
            styled(node.get("description", "")),
        )
        for node in nodes
    ]
    write_table(out, ("node", "kind", "accepts", "produces", "description"), rows)
    edges = [edge for edge in graph.get("edges") or () if isinstance(edge, Mapping)]
    implied = graph.get("implied") or {}
    if not edges and not implied.get("edges"):
        return
    if not out.is_terminal:
        out.print()
    links = [
        (
            styled(edge.get("source")),
            styled(edge.get("kind"), "cyan"),
            styled(edge.get("target")),
        )
        for edge in edges
        if edge.get("declared", True)
    ]
    if links:
        write_table(out, ("from", "edge", "to"), links)
    if others := implied.get("edges", len(edges) - len(links)):
        where = "--json lists them" if implied.get("listed", True) else "too many to list"
        text = f"{others:,} more feeds edge{'s' * (others != 1)} by modality alone; {where}"
        out.print(styled(text, "dim"), soft_wrap=True)
