"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from deployments.api.body import json_body
from deployments.api.chat_request import ChatRequest
from deployments.api.chat_wire import DONE, ChunkWriter, completion, event
from deployments.api.event_stream import EventStream, while_client_stays
from deployments.api.preferences import preferring
from deployments.api.state import context_of, exchange_of, gateway_of
from deployments.http_errors import error_body
from deployments.json_response import JSONResponse
from deployments.middleware import Exchange
from deployments.orchestrator import Answer
from graph import telemetry as otel
from graph.collect import Gathered, collect
from graph.errors import ModelyardError, StreamBroken
from graph.node import closing_stream
from graph.types import Call, Delta

routes = APIRouter(tags=["OpenAI"])
_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
}


@routes.post("/v1/chat/completions", openapi_extra=_SCHEMA, responses={200: {"content": {"text/event-stream": {}}}})
async def chat_completions(request: Request) -> Response:
    """Answer a conversation. `model` is `auto` (routed), `plan` (planned) or a node's name."""
    gateway, exchange = gateway_of(request), exchange_of(request)
    chat = ChatRequest.parse(await json_body(request), max_messages=gateway.settings.max_messages)
    call = preferring(chat.to_call(context_of(request)), request, chat.metadata)
    answer = await gateway.orchestrator.answer(call, chat.model, exchange.span)
    if chat.stream:
        include_usage = chat.stream_options is not None and chat.stream_options.include_usage
        return await _streamed(answer, chat.model, request, ChunkWriter(call, include_usage=include_usage))
    return await _whole(answer, call, chat.model, request)


async def _whole(answer: Answer, call: Call, model: str, request: Request) -> Response:
    async with while_client_stays(request.scope, request.receive):
        reply = await collect(answer.deltas, node=model)
    describe(exchange_of(request), answer, reply.node, reply.escalated)
    return JSONResponse(completion(reply, call))


async def _streamed(answer: Answer, model: str, request: Request, writer: ChunkWriter) -> Response:
    # The first delta is awaited before anything is sent, so that an early failure is an answer with its own status
    # and the headers name the node that really answers.
    deltas = aiter(answer.deltas)
    async with while_client_stays(request.scope, request.receive):
        first = await anext(deltas, None)
    exchange = exchange_of(request)
    describe(exchange, answer, (first.node if first else None) or model, first.escalated if first else ())
    return EventStream(_chunks(first, deltas, writer, exchange))


async def _chunks(
    first: Delta | None, deltas: AsyncIterator[Delta], writer: ChunkWriter, exchange: Exchange
) -> AsyncGenerator[bytes, None]:
    gathered = Gathered("")
    try:
        async with closing_stream(deltas):
            delta = first
            while delta is not None:
                gathered.add(delta)
                if delta.reset:
                    raise StreamBroken("another attempt began, and what was sent cannot be taken back")
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


def describe(exchange: Exchange, answer: Answer, node: str, escalated: Sequence[str] = ()) -> None:
    """Put Modelyard's own facts into the headers of the answer."""
    exchange.headers["x-modelyard-node"] = node
    if escalated:
        exchange.headers["x-modelyard-escalated"] = ", ".join(escalated)
    if answer.decision is not None:
        exchange.headers["x-modelyard-probability"] = f"{answer.decision.probability:.4f}"
    if answer.run is not None:
        exchange.headers["x-modelyard-run"] = answer.run
    exchange.timings.update(answer.timings)
