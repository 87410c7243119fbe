"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from deployments.api.chat_request import ChatRequest
from deployments.api.chat_wire import DONE, ChunkWriter, completion, event
from deployments.api.state import exchange_of, gateway_of, identified
from deployments.http_errors import error_body
from deployments.json_response import JSONResponse
from deployments.middleware import Exchange
from deployments.orchestrator import Answer
from graph import telemetry as otel
from graph.collect import Gathered
from graph.errors import InvalidRequest, ModelyardError
from graph.node import closing_stream
from graph.types import Delta

routes = APIRouter(tags=["OpenAI"])
CLIENT_LEFT = 499
"""Status in logs and metrics of a request whose client left; nobody receives it."""
_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
}


@routes.post("/v1/chat/completions", openapi_extra=_SCHEMA)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation. `model` is `auto` (routed), `plan` (planned) or a node's name."""
    gateway, exchange = gateway_of(request), exchange_of(request)
    chat = ChatRequest.parse(await json_body(request), max_messages=gateway.settings.max_messages)
    call = identified(chat.to_call(), request)
    answer = await gateway.orchestrator.answer(call, chat.model, exchange.span)
    if chat.stream:
        include_usage = chat.stream_options is not None and chat.stream_options.include_usage
        return await _streamed(answer, chat.model, exchange, include_usage)
    return await _whole(answer, chat.model, exchange, request)


async def json_body(request: Request) -> Any:
    """Read the body as JSON; raise `InvalidRequest` that says where it is broken."""
    body = await request.body()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


async def _whole(answer: Answer, model: str, exchange: Exchange, request: Request) -> Response:
    gathered = Gathered(answer.decision.node if answer.decision and answer.decision.node else model)
    work = asyncio.current_task()
    assert work is not None  # noqa: S101  # a coroutine runs in a task
    gone = asyncio.create_task(_left(request, work))
    try:
        async with closing_stream(answer.deltas) as deltas:
            async for delta in deltas:
                gathered.add(delta)
    except asyncio.CancelledError:
        if not gone.done():
            raise
        work.uncancel()
        return Response(status_code=CLIENT_LEFT)
    finally:
        gone.cancel()
    reply = gathered.reply()
    describe(exchange, answer, reply.node)
    return JSONResponse(completion(reply))


async def _left(request: Request, work: asyncio.Task[Any]) -> None:
    """Cancel the work when the client has left: nobody would read the answer."""
    if (await request.receive())["type"] == "http.disconnect":
        work.cancel()


async def _streamed(answer: Answer, model: str, exchange: Exchange, include_usage: bool) -> Response:
    # The first delta is awaited before anything is sent, so that an early failure is an answer with its own status
    # and the headers name the node that really answers.
    deltas = aiter(answer.deltas)
    first = await anext(deltas, None)
    describe(exchange, answer, (first.node if first else None) or model)
    body = _chunks(first, deltas, ChunkWriter(include_usage=include_usage), exchange)
    return StreamingResponse(body, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _chunks(
    first: Delta | None, deltas: AsyncIterator[Delta], writer: ChunkWriter, exchange: Exchange
) -> AsyncIterator[bytes]:
    gathered = Gathered("")
    try:
        async with closing_stream(deltas):
            delta = first
            while delta is not None:
                gathered.add(delta)
                if chunk := writer.write(delta):
                    yield chunk
                delta = await anext(deltas, None)
        gathered.reply()  # raises if the answer was cut
    except ModelyardError as error:
        otel.fail(exchange.span, error)
        yield event(error_body(error))
        return
    if usage := writer.usage(gathered.usage):
        yield usage
    yield DONE


def describe(exchange: Exchange, answer: Answer, node: str) -> None:
    """Put Modelyard's own facts into the headers of the answer."""
    exchange.headers["x-modelyard-node"] = node
    if answer.decision is not None:
        exchange.headers["x-modelyard-probability"] = f"{answer.decision.probability:.4f}"
    if answer.run is not None:
        exchange.headers["x-modelyard-run"] = answer.run
    exchange.timings.update(answer.timings)
