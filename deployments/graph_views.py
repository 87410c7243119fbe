"""The graph as JSON, Mermaid and DOT."""

from __future__ import annotations

import json
from typing import Any

from graph.model_graph import EDGE_KINDS, ModelGraph
from graph.spec import NodeSpec

_ARROWS = {"feeds": "-->", "fallback": "-.->", "escalates": "==>"}
_STYLES = {"feeds": "solid", "fallback": "dashed", "escalates": "bold"}


def describe(spec: NodeSpec) -> dict[str, Any]:
    """Return what a list of nodes says of each."""
    return {
        "name": spec.name,
        "kind": spec.kind,
        "description": spec.description,
        "accepts": sorted(spec.accepts),
        "produces": sorted(spec.produces),
        "default": spec.default,
    }


def to_json(graph: ModelGraph) -> dict[str, Any]:
    """Return nodes and edges; `declared` tells edges of the YAML from those that modalities alone make.

    `implied` counts the latter, and says whether `edges` lists them: of large graphs there are too many.
    """
    edges = [
        {"source": source, "target": target, "kind": kind, "declared": data["declared"]}
        for source, target, kind, data in graph.network.edges(keys=True, data=True)
    ]
    implied = {"edges": graph.feeds.implied, "listed": graph.lists_implied}
    return {"nodes": [describe(spec) for spec in graph], "edges": edges, "implied": implied}


def _declared(graph: ModelGraph) -> list[tuple[str, str, str]]:
    """Edges worth drawing: what somebody wrote down."""
    found = [(s, t, k) for s, t, k, data in graph.network.edges(keys=True, data=True) if data["declared"]]
    return sorted(found, key=lambda edge: (EDGE_KINDS.index(edge[2]), edge[0], edge[1]))


def to_mermaid(graph: ModelGraph) -> str:
    """Return a Mermaid flow chart of the nodes and the declared edges."""
    ids = {spec.name: f"n{index}" for index, spec in enumerate(graph)}
    lines = ["flowchart LR"]
    lines += [f'    {ids[spec.name]}["{spec.name}<br/>{spec.kind}"]' for spec in graph]
    lines += [f"    {ids[s]} {_ARROWS[kind]}|{kind}| {ids[t]}" for s, t, kind in _declared(graph)]
    return "\n".join(lines) + "\n"


def to_dot(graph: ModelGraph) -> str:
    """Return a Graphviz digraph of the nodes and the declared edges."""
    lines = ["digraph modelyard {", "    rankdir=LR;", "    node [shape=box];"]
    lines += [f"    {json.dumps(spec.name)} [label={json.dumps(f'{spec.name} ({spec.kind})')}];" for spec in graph]
    for source, target, kind in _declared(graph):
        style = f"[label={json.dumps(kind)}, style={_STYLES[kind]}]"
        lines.append(f"    {json.dumps(source)} -> {json.dumps(target)} {style};")
    return "\n".join([*lines, "}"]) + "\n"
