"""Health, metrics, traces and feedback."""

from __future__ import annotations

import re
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import PlainTextResponse, Response

from deployments.api.body import JSONRoute
from deployments.api.state import exchange_of, gateway_of, graph_of
from deployments.json_response import JSONResponse
from deployments.trace_tree import load_trace
from graph.errors import InvalidRequest, RunNotFound

routes = APIRouter(tags=["Modelyard"], route_class=JSONRoute)


@routes.get("/healthz")
async def healthz() -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


@routes.get("/readyz")
async def readyz(request: Request) -> Response:
    """Say whether requests are served: the registry is read, the router fitted, and some node is ready.

    Nobody need have a key to ask; `nodes` are those that exist for the key that came.
    """
    gateway, seen = gateway_of(request), exchange_of(request).principal.nodes
    states = {name: status.state for name, status in gateway.snapshot.nodes.items()}
    ready = gateway.ready and (not states or "ready" in states.values())
    shown = {name: state for name, state in states.items() if seen is None or name in seen}
    return JSONResponse({"ready": ready, "nodes": shown}, 200 if ready else 503)


@routes.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return this gateway replica's metrics in Prometheus' text format, or as OpenMetrics with exemplars, by Accept."""
    body, content_type = gateway_of(request).metrics.render(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


@routes.get("/v1/traces/{trace_id}")
async def show_trace(trace_id: str, request: Request) -> Response:
    """Return the spans of one request as a tree, critical path marked. Spans arrive within a second.

    A key with the scope read and without a list of nodes sees every trace, others those of their own requests.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        raise InvalidRequest(f"{trace_id!r} is not a trace id: 32 hex digits, from the x-trace-id header",
                             param="trace_id")  # fmt: skip
    await gateway_of(request).flush_spans()
    tree = await load_trace(gateway_of(request).store, trace_id)
    if tree is None or not exchange_of(request).principal.may_see_trace_of(tree.callers):
        raise RunNotFound(f"no spans of trace {trace_id} are kept (yet)", param="trace_id")
    jaeger = gateway_of(request).settings.jaeger_url
    return JSONResponse(tree.to_json() | {"jaeger": f"{jaeger.rstrip('/')}/trace/{trace_id}" if jaeger else None})


class Feedback(BaseModel):
    """What somebody thinks of an answer; at least one of `rating`, `score` and `right_node`."""

    model_config = ConfigDict(extra="forbid")
    request_id: str = Field(min_length=1, max_length=200)
    """The answer's `x-request-id` or `x-trace-id`, or a run's id."""
    rating: Literal["good", "bad"] | None = None
    score: float | None = Field(None, ge=0, le=1)
    """How good the answer was: 0 useless, 1 as good as can be."""
    right_node: str | None = Field(None, max_length=63)
    """The node that should have answered. The request's text is kept with it, for `POST /v1/router/learn`."""
    input: str | None = Field(None, min_length=1, max_length=8000)
    """The request's text, for a service that no longer remembers it."""
    comment: str | None = Field(None, max_length=4000)

    @model_validator(mode="after")
    def _says_something(self) -> Feedback:
        if self.rating is None and self.score is None and self.right_node is None:
            raise ValueError("give at least one of rating, score and right_node")
        return self


@routes.post("/v1/feedback", status_code=201)
async def feedback(body: Feedback, request: Request) -> Response:
    """Keep what somebody thinks of an answer. `learnable` says whether it is kept with its request's text.

    `request_known` is false where no request of that id, of those that were routed of late, is remembered: it may be
    mistyped, or too old, or have named its node.
    """
    gateway = gateway_of(request)
    if body.right_node is not None:
        graph_of(request)[body.right_node]
    kept = await gateway.feedback.keep(body.model_dump(exclude_none=True), by=exchange_of(request).principal)
    known = kept.node is not None or await gateway.traffic.find(body.request_id) is not None
    told = {"learnable": kept.text is not None, "request_known": known}
    return JSONResponse({"id": kept.id, "status": "kept"} | told, 201)
