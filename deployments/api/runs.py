"""Deciding without running, and runs: `/v1/route`, `/v1/plan`, `/v1/runs`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from deployments.api.body import JSONRoute
from deployments.api.event_stream import EventStream
from deployments.api.native_request import NativeRequest, RunRequest
from deployments.api.preferences import preferring
from deployments.api.state import exchange_of, gateway_of, identified
from deployments.json_response import JSONResponse
from deployments.middleware import Exchange
from deployments.runs import Runs
from graph.composition import citations
from graph.errors import InvalidRequest, RunNotFound
from graph.journal import RunRecord, run_not_found
from graph.plan import Plan
from graph.run_options import RunOptions
from graph.types import Call

MAX_EVENT = 10**15
"""Ids of events are below this."""
MAX_LISTED = 8 * 2**20
"""Bytes of a list of runs; a single one may be larger."""
routes = APIRouter(tags=["Modelyard"], route_class=JSONRoute)


@routes.post("/v1/route")
async def route(body: NativeRequest, request: Request) -> Response:
    """Decide which node would answer, with the candidates and why others were left out; nothing runs."""
    exchange = exchange_of(request)
    call = preferring(identified(body.to_call(), request), request, body.metadata)
    decision = await gateway_of(request).orchestrator.route(call, exchange.span)
    exchange.timings["route"] = decision.elapsed_ms
    return JSONResponse(decision.to_json())


@routes.post("/v1/plan")
async def plan(body: NativeRequest, request: Request) -> Response:
    """Make the plan for a request; nothing of it runs."""
    began = time.perf_counter()
    call = preferring(identified(body.to_call(), request), request, body.metadata)
    made = await gateway_of(request).orchestrator.plan(call)
    elapsed = (time.perf_counter() - began) * 1000
    exchange_of(request).timings["plan"] = elapsed
    return JSONResponse(made.to_json() | {"elapsed_ms": round(elapsed, 3)})


@routes.post("/v1/runs", status_code=202)
async def start_run(body: RunRequest, request: Request) -> Response:
    """Plan a request, or take the plan given, and run it. Answers at once; the run is already journaled."""
    exchange = exchange_of(request)
    call = preferring(identified(body.to_call(), request), request, body.metadata)
    call = replace(call, resets=True)  # events can say that text is void
    gateway_of(request).orchestrator.require_nodes()  # before a plan is held against them
    plan, options = await asyncio.to_thread(lambda: (body.to_plan(), body.to_options()))  # other requests go on
    id = await _started(gateway_of(request).runs, call, plan, options, exchange)
    exchange.headers["x-modelyard-run"] = id
    exchange.headers["location"] = f"/v1/runs/{id}"
    return JSONResponse({"id": id, "status": "running"}, 202)


@routes.get("/v1/runs")
async def list_runs(request: Request, limit: int = Query(20, ge=1, le=200)) -> Response:
    """List the latest runs: one's own, and an admin everybody's. `truncated` says that more would be too large."""
    principal = exchange_of(request).principal
    shown: list[orjson.Fragment] = []
    size, truncated = 0, False
    async for record in gateway_of(request).runs.newest(limit, None if principal.is_admin else principal.id):
        written = orjson.dumps(_run(record), option=orjson.OPT_NON_STR_KEYS)
        size += len(written)
        if truncated := bool(shown) and size > MAX_LISTED:
            break
        shown.append(orjson.Fragment(written))
    return JSONResponse({"data": shown, "truncated": truncated})


@routes.get("/v1/runs/{id}")
async def show_run(id: str, request: Request) -> Response:
    """Return a run: its plan, the outcome of each task, and the answer."""
    record = await gateway_of(request).runs.get(id)
    _require_own(request, id, record.caller)
    return JSONResponse(_run(record))


@routes.get(
    "/v1/runs/{id}/events",
    response_class=StreamingResponse,  # it has no media type of its own
    responses={200: {"content": {EventStream.media_type: {}}}},
)
async def follow_run(
    id: str, request: Request, last_event_id: str | None = Header(None), after: int = Query(0, ge=0, lt=MAX_EVENT)
) -> Response:
    """Stream what happens in a run as server-sent events. `Last-Event-ID` (or `after`) resumes behind an event."""
    if last_event_id and not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
        raise InvalidRequest(f"{last_event_id!r} is not the id of an event", param="Last-Event-ID")
    runs = gateway_of(request).runs
    _require_own(request, id, await runs.caller(id))
    who = exchange_of(request).principal.id
    runs.followers.check(who)
    events = _events(runs, id, int(last_event_id) if last_event_id else after)
    return EventStream(runs.followers.counted(who, events))


async def _started(runs: Runs, call: Call, plan: Plan | None, options: RunOptions, exchange: Exchange) -> str:
    """Start a run; the one that was started for the same Idempotency-Key before, if there is one."""
    id = exchange.run
    if id is not None:
        with suppress(RunNotFound):
            await runs.caller(id)
            return id
    return await runs.start(call, plan, span=exchange.span, options=options, id=id)


def _require_own(request: Request, id: str, caller: str | None) -> None:
    """Raise `RunNotFound` for somebody else's run: that it exists is nobody's affair."""
    if not exchange_of(request).principal.may_see_run_of(caller):
        raise run_not_found(id)


def _run(record: RunRecord) -> dict[str, Any]:
    ended = (o for o in record.outcomes if not o.under_way or record.status != "running")
    outcomes = {outcome.task: outcome.to_json() for outcome in ended}
    order = [task.id for task in record.plan.tasks] if record.plan else []
    replaced = [outcome for task, outcome in outcomes.items() if task not in order]
    return {
        "id": record.id,
        "status": record.status,
        "plan": record.plan.to_json() if record.plan else None,
        "outcomes": [outcomes[task] for task in order if task in outcomes],
        **({"replaced": replaced} if replaced and order else {}),
        **_cited(record),
        "output": record.output,
        "error": record.error,
        "trace_id": record.trace_id,
        "created_at": record.created_at,
        "ended_at": record.ended_at,
    }


def _cited(record: RunRecord) -> dict[str, Any]:
    """Return the tasks that a written answer cites, if a node wrote it."""
    writers = [task for task in record.plan.tasks if task.composes] if record.plan else []
    return {"citations": list(citations(record.output or "", writers[-1].composes))} if writers else {}


async def _events(runs: Runs, id: str, after: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(runs.events(id, after)) as events:
        async for number, event in events:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.type.encode(), orjson.dumps(dict(event.data)))
