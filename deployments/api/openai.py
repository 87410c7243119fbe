"""The rest of the OpenAI surface: models, embeddings, transcriptions."""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.responses import PlainTextResponse, Response

from deployments.api.body import JSONRoute
from deployments.api.chat_request import MAX_ATTACHMENT_BYTES
from deployments.api.event_stream import while_client_stays
from deployments.api.state import exchange_of, gateway_of, graph_of, identified
from deployments.json_response import JSONResponse
from deployments.orchestrator import AUTO, PLAN
from graph.collect import collect
from graph.errors import InvalidRequest, NoNodeFits, PayloadTooLarge
from graph.types import Call, Json, Modality, NodeName, Operation, Payload, Reply, Usage, json_payload

routes = APIRouter(tags=["OpenAI"], route_class=JSONRoute)
MAX_INPUTS = 10_000
"""Texts of one embeddings request."""
FORMATS = ("json", "text", "verbose_json")


@routes.get("/v1/models")
async def list_models(request: Request) -> Response:
    """List what `model` may be: `auto`, `plan` and every node."""
    names = (AUTO, PLAN, *graph_of(request).names)
    return JSONResponse({"object": "list", "data": [_model(name) for name in names]})


@routes.get("/v1/models/{name}")
async def show_model(name: str, request: Request) -> Response:
    """Describe one model."""
    if name not in (AUTO, PLAN):
        graph_of(request)[name]
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "modelyard"}


class EmbeddingsRequest(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(extra="forbid")
    model: str = "auto"
    input: str | Annotated[list[str], Field(max_length=MAX_INPUTS)] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


@routes.post("/v1/embeddings")
async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts with a node that does embeddings; `auto` takes the first one that is ready."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    for index, text in enumerate(texts):
        if not text:
            raise InvalidRequest("is an empty text", param=f"input.{index}")
    params = {"dimensions": body.dimensions} if body.dimensions else {}
    call = Call(inputs={"input": json_payload(texts)}, params=params, operation="embeddings")
    reply = await _answered(call, body.model, request)
    vectors = reply.payload.value
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = reply.usage or Usage(estimated=True)
    counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    return JSONResponse({"object": "list", "data": data, "model": reply.model, "usage": counts})


def _encoded(vector: list[float], encoding: str) -> Json:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string", "default": "auto"},
                        "language": {"type": "string"},
                        "prompt": {"type": "string"},
                        "temperature": {"type": "number"},
                        "response_format": {"type": "string", "enum": list(FORMATS)},
                    },
                }
            }
        },
    }
}


@routes.post("/v1/audio/transcriptions", openapi_extra=_FORM, responses={200: {"content": {"text/plain": {}}}})
async def transcriptions(request: Request) -> Response:
    """Transcribe a recording (wav, mp3, m4a, ogg, flac, webm) with a node that does transcriptions."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("the body must be multipart/form-data with a part 'file'", param="file")
    async with request.form(max_files=1, max_fields=20) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("is required: the recording", param="file")
        if file.size is not None and file.size > MAX_ATTACHMENT_BYTES:
            raise PayloadTooLarge(f"the recording has more than {MAX_ATTACHMENT_BYTES} bytes", param="file")
        audio = await file.read()
        fields = {name: str(value) for name, value in form.items() if name != "file"}
        media_type = file.content_type
    if not audio:
        raise InvalidRequest("is empty", param="file")
    wanted = fields.pop("response_format", "json")
    if wanted not in FORMATS:
        raise InvalidRequest(f"{wanted!r} is not one of {', '.join(FORMATS)}", param="response_format")
    payload = Payload(Modality.AUDIO, audio, media_type)
    model = fields.pop("model", AUTO)
    params = _transcription_params(fields) | {"response_format": wanted}
    call = Call((), {"audio": payload}, params, operation="transcribe")
    reply = await _answered(call, model, request)
    if wanted == "text":
        return PlainTextResponse(reply.text)
    if wanted == "verbose_json" and isinstance(reply.payload.value, dict):
        return JSONResponse({"task": "transcribe"} | reply.payload.value)
    return JSONResponse({"text": reply.text.strip()})


def _transcription_params(fields: dict[str, str]) -> dict[str, Json]:
    known = {"language", "prompt", "temperature"}
    for name in sorted(set(fields) - known - {"timestamp_granularities[]"}):
        raise InvalidRequest(f"unknown field; valid fields: file, model, response_format, {', '.join(sorted(known))}",
                             param=name)  # fmt: skip
    params: dict[str, Json] = {name: fields[name] for name in ("language", "prompt") if name in fields}
    if "temperature" in fields:
        try:
            params["temperature"] = temperature = float(fields["temperature"])
        except ValueError:
            temperature = math.nan
        if not math.isfinite(temperature):
            raise InvalidRequest(f"{fields['temperature']!r} is not a number", param="temperature") from None
    return params


async def _answered(call: Call, model: str, request: Request) -> Reply:
    gateway, exchange = gateway_of(request), exchange_of(request)
    if model == PLAN:
        raise InvalidRequest(f"plans do not do {call.operation}; name a node, or {AUTO!r}", param="model")
    call = identified(call, request)
    name = _first_for(call.operation, request) if model == AUTO else model
    answer = await gateway.orchestrator.answer(call, name, exchange.span)
    async with while_client_stays(request.scope, request.receive):
        reply = await collect(answer.deltas, node=name)
    exchange.headers["x-modelyard-node"] = reply.node
    return reply


def _first_for(operation: Operation, request: Request) -> NodeName:
    gateway = gateway_of(request)
    excluded = gateway.orchestrator.excluded(Call(operation=operation))
    fit = [name for name in graph_of(request).names if name not in excluded]
    if not fit:
        raise NoNodeFits(f"no node that does {operation} is ready", param="model")
    return fit[0]
