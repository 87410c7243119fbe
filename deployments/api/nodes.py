"""The registry over HTTP: `/v1/nodes`, `/v1/graph`."""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, Response

from deployments.api.state import author_of, exchange_of, gateway_of, graph_of
from deployments.gateway import Gateway
from deployments.graph_views import describe, to_dot, to_json, to_mermaid
from deployments.json_response import JSONResponse
from deployments.snapshot import NodeStatus
from graph.errors import InvalidRequest, InvalidSpec, NodeNotFound, NodeRefused, Problem
from graph.loader import dump_yaml, load_text
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import NodeName

routes = APIRouter(tags=["Modelyard"])
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/NodeSpec"}},
        },
    }
}


@routes.get("/v1/nodes")
async def list_nodes(request: Request) -> Response:
    """List the nodes with their state."""
    nodes, graph = gateway_of(request).snapshot.nodes, graph_of(request)
    shown = [_describe(nodes[spec.name], spec) | await _rollout(gateway_of(request), spec.name) for spec in graph]
    return JSONResponse({"data": shown})


@routes.get("/v1/nodes/{name}")
async def show_node(name: str, request: Request) -> Response:
    """Return one node with its whole spec; secrets stay the references that they are."""
    graph = graph_of(request)
    _require(graph, name)
    status = gateway_of(request).snapshot.nodes[name]
    spec = ModelGraph([status.spec]).seen_by(_seen(request))[name]
    rollout = await _rollout(gateway_of(request), name, flips=True)
    return JSONResponse(_describe(status, graph[name]) | rollout | {"spec": spec.to_yaml_dict()})


@routes.put("/v1/nodes/{name}", openapi_extra=_BODY, responses={409: {"description": "The gate refused the node."}})
async def put_node(name: str, request: Request, dry_run: bool = Query(False), force: bool = Query(False)) -> Response:
    """Register a node, or a new version of one, from YAML or JSON. It is loaded, then routed to, without a restart.

    What it would do to the other nodes' requests is measured first: `gate` in the answer. A node that would do harm is
    refused with 409 unless `force` is set; `dry_run` only reports. An edge to a node that does not exist is a warning:
    two nodes that name each other are put one after the other.
    """
    gateway = gateway_of(request)
    spec = await asyncio.to_thread(_read, await request.body(), name, request)  # YAML is slow to parse
    current = gateway.snapshot.nodes.get(name)
    others = gateway.snapshot.graph.with_nodes(spec)
    if defaults := [problem for problem in others.problems() if problem.key == "default"]:
        raise InvalidSpec(defaults)
    warnings = [f"{problem.key}: {problem.message}" for problem in others.problems() if problem.where == name]
    report, version = await gateway.register(spec, author=author_of(request), force=force, dry_run=dry_run)
    warnings += report.reasons if report.verdict in ("flag", "refuse") else ()
    gate = report.to_json() | {"forced": force and report.verdict == "refuse"}
    if version is None:
        changes = _changes(current.spec if current else None, spec)
        body = {"name": name, "valid": True, "dry_run": True, "changes": changes, "warnings": warnings, "gate": gate}
        return JSONResponse(body)
    await gateway.look()
    unchanged = current is not None and version.version == current.version
    state = current.state if unchanged and current else "loading"
    body = {"name": name, "version": version.version, "state": state, "warnings": warnings, "gate": gate}
    return JSONResponse(body, 200 if current else 201)


@routes.delete("/v1/nodes/{name}")
async def remove_node(name: str, request: Request) -> Response:
    """Remove a node. Calls in flight finish; its versions are kept, so that it can be rolled back to life."""
    gateway = gateway_of(request)
    version = await gateway.registry.remove(name, author=author_of(request))
    await gateway.look()
    return JSONResponse({"name": name, "version": version.version, "state": "draining"})


@routes.get("/v1/nodes/{name}/history")
async def history(name: str, request: Request) -> Response:
    """List every version of a node, newest first."""
    seen = _seen(request)
    if seen is not None and name not in seen:
        raise NodeNotFound(f"no node was ever called {name!r}", param="name", node=name)
    versions = await gateway_of(request).registry.history(name)
    shown = (replace(v, spec=v.spec and ModelGraph([v.spec]).seen_by(seen)[name]) for v in versions)
    return JSONResponse({"data": [version.to_json() for version in shown]})


@routes.post("/v1/nodes/{name}/rollback")
async def rollback(name: str, request: Request, to: int | None = Query(None, ge=1, le=2**31)) -> Response:
    """Make an earlier version the newest: the one before, or version `to`."""
    gateway = gateway_of(request)
    version = await gateway.registry.rollback(name, to=to, author=author_of(request))
    await gateway.look()
    return JSONResponse({"name": name, "version": version.version, "state": "loading"})


@routes.post("/v1/nodes/{name}/promote")
async def promote(name: str, request: Request) -> Response:
    """Let the newest version, which is in its rollout, take all calls."""
    gateway = gateway_of(request)
    _require(gateway.snapshot.graph, name)
    status = gateway.snapshot.nodes[name]
    version = status.version
    if status.error is not None and status.canary is None and status.serving_version != version:
        message = f"version {version} of node {name!r} is not loaded: {status.error}; put one that loads, or roll back"
        raise NodeRefused(message, node=name)
    await gateway.canary_watch.rollouts.promote(name, version, by=author_of(request))
    await gateway.look()
    return JSONResponse({"name": name, "version": version, "state": "loading"})


@routes.get("/v1/graph", responses={200: {"content": {"text/vnd.mermaid": {}, "text/vnd.graphviz": {}}}})
async def show_graph(request: Request) -> Response:
    """Return nodes and edges as JSON, or as Mermaid (`text/vnd.mermaid`) or DOT (`text/vnd.graphviz`) by Accept."""
    graph = graph_of(request)
    accept = request.headers.get("accept", "")
    if "mermaid" in accept:
        return PlainTextResponse(await asyncio.to_thread(to_mermaid, graph), media_type="text/vnd.mermaid")
    if "graphviz" in accept:
        return PlainTextResponse(await asyncio.to_thread(to_dot, graph), media_type="text/vnd.graphviz")
    return JSONResponse(await asyncio.to_thread(to_json, graph))


def _require(graph: ModelGraph, name: NodeName) -> None:
    """Raise `NodeNotFound`, which names the nodes that there are."""
    try:
        graph[name]
    except NodeNotFound as error:
        error.param = "name"
        raise


def _read(body: bytes, name: str, request: Request) -> NodeSpec:
    specs = load_text(body, gateway_of(request).kinds).require()
    if len(specs) != 1:
        raise InvalidSpec([Problem("body", "", f"declares {len(specs)} nodes; one is put at a time")])
    if specs[0].name != name:
        raise InvalidRequest(f"the address names {name!r}, the spec {specs[0].name!r}", param="name")
    return specs[0]


def _changes(old: NodeSpec | None, new: NodeSpec) -> list[str]:
    before = dump_yaml(old).splitlines() if old else []
    return list(difflib.unified_diff(before, dump_yaml(new).splitlines(), lineterm="", n=0))[2:]


def _seen(request: Request) -> frozenset[NodeName] | None:
    return exchange_of(request).principal.nodes


async def _rollout(gateway: Gateway, name: NodeName, *, flips: bool = False) -> dict[str, Any]:
    """Return how the newest version does that takes a share of the calls; nothing if none does."""
    canary = gateway.snapshot.nodes[name].canary
    if canary is None:
        return {}
    tally, last = await gateway.canary_watch.rollouts.seen(name, canary.version)
    found = {"version": canary.version, "share": canary.share} | tally.to_json()
    return {"rollout": found | ({"last_flips": last} if flips else {})}


def _describe(status: NodeStatus, spec: NodeSpec) -> dict[str, Any]:
    return describe(spec) | {
        "version": status.version,
        "serving_version": status.serving_version,
        "state": status.state,
        "error": status.error,
        "model": spec.model,
        "edges": spec.edges.model_dump(mode="json"),
    }
