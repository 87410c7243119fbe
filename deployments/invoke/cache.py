"""Answers a call of a deterministic node from the store when the node has answered the same before."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from graph.collect import Gathered
from graph.node import Invoke, closing_stream
from graph.spec import NodeSpec
from graph.stores.base import StateStore
from graph.types import Call, Delta, Modality, NodeName, Reply

log = logging.getLogger("modelyard.cache")

MAX_BYTES = 256 * 1024
"""Size of an answer that is kept; longer ones are asked for again."""
_TABLE, _INDEX = "output-cache", "output-cache-index"


class OutputCache:
    """Replies by the content of the call, at most so many, each for so long. A store that is away is no error."""

    def __init__(self, store: StateStore, *, entries: int, ttl_s: float) -> None:
        self._store = store
        self._entries = entries
        self._ttl_s = ttl_s

    async def get(self, key: str) -> Reply | None:
        """Return what was kept."""
        try:
            raw = await self._store.get(_TABLE, key)
            return Reply.from_json(json.loads(raw)) if raw is not None else None
        except Exception:  # a boundary: without the cache the node is asked
            log.exception("the output cache could not be read")
            return None

    async def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; the oldest makes room."""
        raw = json.dumps(reply.to_json()).encode()
        if len(raw) > MAX_BYTES:
            return
        try:
            await self._store.put(_TABLE, key, raw, ttl_s=self._ttl_s)
            # One more than there may be stay in the index, so that the key of the one that goes is known.
            number = await self._store.append(_INDEX, [key.encode()], keep=self._entries + 1)
            oldest = number - self._entries
            if oldest > 0:
                for _, old in await self._store.read(_INDEX, after=oldest - 1, limit=1):
                    if old.decode() != key:
                        await self._store.delete(_TABLE, old.decode())
        except Exception:  # a boundary: the answer is there all the same
            log.exception("the output cache could not be written")


def cached(invoke: Invoke, lookup: Callable[[NodeName], NodeSpec], cache: OutputCache) -> Invoke:
    """Answer what deterministic nodes were asked before, and keep what they answer. Other nodes are not touched."""

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        spec = lookup(node)
        return _answered(invoke, node, spec, call, cache) if spec.deterministic else invoke(node, call)

    return run


def key_of(spec: NodeSpec, call: Call) -> str:
    """Return what two calls have in common that must be answered alike: the node as declared, and what is asked."""
    asked = {name: value for name, value in call.to_json().items() if name not in ("request_id", "caller")}
    content = json.dumps([spec.to_yaml_dict(), asked], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


async def _answered(
    invoke: Invoke, node: NodeName, spec: NodeSpec, call: Call, cache: OutputCache
) -> AsyncIterator[Delta]:
    key = key_of(spec, call)
    if (known := await cache.get(key)) is not None:
        for delta in _replayed(known):
            yield delta
        return
    gathered = Gathered(spec.name)
    async with closing_stream(invoke(node, call)) as deltas:
        async for delta in deltas:
            gathered.add(delta)
            if delta.finish_reason == "stop":  # before it is passed on: who has the end of an answer may leave
                await cache.put(key, gathered.reply())
            yield delta


def _replayed(reply: Reply) -> tuple[Delta, Delta]:
    text = reply.payload.text if reply.payload.modality is Modality.TEXT else ""
    calls = tuple({"index": index} | dict(call) for index, call in enumerate(reply.tool_calls))
    whole = Delta(text, None if text else reply.payload, calls, reply.refusal, reply.logprobs, model=reply.model)
    return replace(whole, cached=True), Delta(
        usage=reply.usage, finish_reason=reply.finish_reason, model=reply.model, cached=True
    )
