"""Chat answers on the wire: one object, or a stream of chunks."""

from __future__ import annotations

import time
from random import getrandbits
from typing import Any

import orjson

from deployments.invoke.charge import estimated
from graph.types import Call, Delta, Reply, Usage

DONE = b"data: [DONE]\n\n"


def event(data: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def completion(reply: Reply, call: Call) -> dict[str, Any]:
    """Return a `chat.completion` object that answers a call."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal or None}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
        message["content"] = reply.text or None
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": reply.logprobs}
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model,
        "choices": [choice],
        "usage": (reply.usage or estimated(call, len(reply.text))).to_json(),
    }


class ChunkWriter:
    """Turns the deltas of one answer into `chat.completion.chunk` events."""

    def __init__(self, call: Call, *, include_usage: bool) -> None:
        self._call = call
        self._characters = 0
        self._id = _new_id()
        self._created = int(time.time())
        self._include_usage = include_usage
        self._model = ""
        self._begun = False

    def write(self, delta: Delta) -> bytes:
        """Return the chunk of one delta; empty if it says nothing that the stream carries."""
        self._model = delta.model or self._model or delta.node or ""
        content: dict[str, Any] = {} if self._begun else {"role": "assistant", "content": "", "refusal": None}
        text = delta.text or (delta.payload.text if delta.payload is not None else "")
        if text:
            content["content"] = text
            self._characters += len(text)
        if delta.refusal:
            content["refusal"] = delta.refusal
        if delta.tool_calls:
            content["tool_calls"] = list(delta.tool_calls)
        if not content and delta.finish_reason is None and delta.logprobs is None:
            return b""
        chunks = b""
        if delta.finish_reason and content:  # the finish stands alone, as clients expect it
            chunks = self._chunk(content, None, delta.logprobs)
            content = {}
        return chunks + self._chunk(content, delta.finish_reason, None if chunks else delta.logprobs)

    def usage(self, usage: Usage | None) -> bytes:
        """Return the last chunk, which has the usage and no choice."""
        told = usage or estimated(self._call, self._characters)
        return event(self._frame([], told.to_json())) if self._include_usage else b""

    def _chunk(self, content: dict[str, Any], finish_reason: str | None, logprobs: Any) -> bytes:
        self._begun = True
        choice = {"index": 0, "delta": content, "finish_reason": finish_reason, "logprobs": logprobs}
        return event(self._frame([choice], None))

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
        frame: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        return frame | {"usage": usage} if self._include_usage else frame


def _new_id() -> str:
    """Return an id that names an answer and guards nothing: no need to ask the system for secret randomness."""
    return f"chatcmpl-{getrandbits(128):032x}"
