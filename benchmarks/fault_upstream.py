"""An OpenAI-compatible server on real sockets that plays the faults that a gateway in front of models must take.

The model that a request names decides: `f01` to `f16` play that fault, `silent-once` is silent the first time, and any
other answers whole. What each attempt was is kept, so that a test sees both sides.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.fault_wire import Wire, read_request

TOKENS: Final = 60
FAULTS: Final = {
    "f01": "429 with Retry-After, once",
    "f02": "429 always",
    "f03": "500 once",
    "f04": "503 always",
    "f05": "TCP reset before headers",
    "f06": "accepts, never answers",
    "f07": "first token late",
    "f08": "cut after 40 of 60 tokens",
    "f09": "stalls in the middle",
    "f10": "malformed chunk",
    "f11": "no [DONE], connection held",
    "f12": "400 context_length_exceeded",
    "f13": "400 content policy",
    "f14": "cut, and the fallback takes no prefill",
    "f15": "down for a while under traffic",
    "f16": "any failover: node, model, usage",
}


def whole(model: str) -> str:
    """The whole answer of a model."""
    return " ".join(f"{model}-{number}" for number in range(TOKENS))


def usage(model: str) -> dict[str, int]:
    """The usage of a model's whole answer, which is another for each model."""
    prompt = sum(model.encode())
    return {"prompt_tokens": prompt, "completion_tokens": TOKENS, "total_tokens": prompt + TOKENS}


@dataclass(frozen=True)
class Times:
    """Seconds of the faults that last."""

    retry_after: float = 2.0
    late: float = 20.0
    stall: float = 30.0


@dataclass(frozen=True)
class Attempt:
    """One request as the upstream got it."""

    model: str
    body: Mapping[str, Any]
    at: float

    @property
    def text(self) -> str:
        return json.dumps(self.body["messages"])


@dataclass
class FaultUpstream:
    """Plays faults, and notes every attempt."""

    times: Times = field(default_factory=Times)
    attempts: list[Attempt] = field(default_factory=list)
    down: bool = False
    """Whether `f15` is down now."""
    port: int = 0
    busy: int = 0
    """Requests that are being answered."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self, model: str) -> list[Attempt]:
        """The attempts at a model."""
        return [attempt for attempt in self.attempts if attempt.model == model]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request after request."""
        try:
            self._open.add(writer)
            while (request := await read_request(reader)) is not None and not writer.is_closing():
                self.busy += 1
                try:
                    await self._answer(*request, Wire(reader, writer))
                finally:
                    self.busy -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        """Cut every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _answer(self, path: str, body: Any, wire: Wire) -> None:
        if not path.endswith("/chat/completions"):  # whether the upstream is there
            await wire.reply(200, {"object": "list", "data": []})
            return
        model = body["model"]
        before = len(self.asked(model))
        self.attempts.append(Attempt(model, body, time.monotonic()))
        play = _PLAYS.get(model, _well)
        await play(self, _Asked(model, bool(body.get("stream")), before, body), wire)


@dataclass(frozen=True)
class _Asked:
    model: str
    stream: bool
    before: int
    """Attempts at this model before this one."""
    body: Mapping[str, Any]


async def _begin(asked: _Asked, wire: Wire) -> None:
    await wire.head(200, content_type="text/event-stream", transfer_encoding="chunked")
    await wire.event(_chunk(asked, {"role": "assistant", "content": ""}))


async def _tokens(asked: _Asked, wire: Wire, first: int = 0, last: int = TOKENS) -> None:
    words = whole(asked.model).split(" ")
    for number in range(first, last):
        await wire.event(_chunk(asked, {"content": words[number] + (" " if number + 1 < TOKENS else "")}))
        if number % 10 == 9:
            await asyncio.sleep(0.001)  # so that tokens come in more than one piece


async def _finish(asked: _Asked, wire: Wire) -> None:
    await wire.event(_chunk(asked, {}, "stop"))
    await wire.event(_chunk(asked) | {"choices": [], "usage": usage(asked.model)})


def _chunk(asked: _Asked, delta: Mapping[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    model = f"{asked.model}-model"
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _completion(asked: _Asked) -> dict[str, Any]:
    message = {"role": "assistant", "content": whole(asked.model)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    own = {"model": f"{asked.model}-model", "usage": usage(asked.model)}
    return {"id": "up-1", "object": "chat.completion", "created": 1, "choices": [choice]} | own


async def _well(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if asked.body["messages"][-1]["role"] == "assistant":
        await wire.error(400, "this model does not support a prefilled assistant message")
    elif asked.stream:
        await _begin(asked, wire)
        await _tokens(asked, wire)
        await _finish(asked, wire)
        await wire.end()
    else:
        await wire.reply(200, _completion(asked))


async def _limited_once(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if asked.before:
        await _well(upstream, asked, wire)
    else:
        await wire.error(429, "slow down", "rate_limit_exceeded", retry_after=f"{upstream.times.retry_after:g}")


async def _limited(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await wire.error(429, "slow down", "rate_limit_exceeded")


async def _broken_once(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await (_well(upstream, asked, wire) if asked.before else wire.error(500, "out of order"))


async def _unavailable(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await wire.error(503, "out of order")


async def _reset(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    wire.reset()


async def _silent(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await wire.hold()


async def _silent_once(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await (_well(upstream, asked, wire) if asked.before else wire.hold())


async def _late(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if asked.stream:  # the headers and a chunk without a token come at once
        await _begin(asked, wire)
        await wire.hold(upstream.times.late)
        await _tokens(asked, wire)
        await _finish(asked, wire)
        await wire.end()
    else:
        await wire.hold(upstream.times.late)
        await _well(upstream, asked, wire)


async def _cut(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if asked.stream:
        await _begin(asked, wire)
        await _tokens(asked, wire, last=40)
    else:
        await wire.reply(200, _completion(asked), cut=40 / TOKENS)
    wire.reset()


async def _stalled(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if asked.stream:
        await _begin(asked, wire)
        await _tokens(asked, wire, last=30)
    else:
        await wire.reply(200, _completion(asked), cut=0.5)
    await wire.hold(upstream.times.stall)
    wire.reset()


async def _garbled(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if not asked.stream:
        await wire.reply(200, json.dumps(_completion(asked)).encode()[:-9] + b"<<garbage")
        return
    await _begin(asked, wire)
    await _tokens(asked, wire, last=20)
    await wire.event(b'{"choices": [{"delta": {"content": "<<garbage')
    await _tokens(asked, wire, first=20)
    await _finish(asked, wire)
    await wire.end()


async def _unfinished(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    if not asked.stream:
        await _well(upstream, asked, wire)
        return
    await _begin(asked, wire)
    await _tokens(asked, wire)
    await _finish(asked, wire)
    await wire.hold()


async def _too_long(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    message = "This model's maximum context length is 4096 tokens. Please reduce the length of the messages."
    await wire.error(400, message, "context_length_exceeded")


async def _refused(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await wire.error(400, "The request was rejected by the content policy.", "content_policy_violation")


async def _down(upstream: FaultUpstream, asked: _Asked, wire: Wire) -> None:
    await (wire.error(503, "down") if upstream.down else _well(upstream, asked, wire))


_Play = Callable[[FaultUpstream, _Asked, Wire], Awaitable[None]]
_PLAYS: Final[Mapping[str, _Play]] = {
    "f01": _limited_once,
    "f02": _limited,
    "f03": _broken_once,
    "f04": _unavailable,
    "f05": _reset,
    "f06": _silent,
    "f07": _late,
    "f08": _cut,
    "f09": _stalled,
    "f10": _garbled,
    "f11": _unfinished,
    "f12": _too_long,
    "f13": _refused,
    "f14": _cut,
    "f15": _down,
    "f16": _unavailable,
    "silent-once": _silent_once,
}


@asynccontextmanager
async def fault_upstream(times: Times | None = None) -> AsyncIterator[FaultUpstream]:
    """Listen on a free port of the loopback interface."""
    upstream = FaultUpstream(times or Times())
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=2**26)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        upstream.close()
