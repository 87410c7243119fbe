"""Gathers a stream of deltas into one `Reply`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from graph.errors import ContentRefused, StreamBroken
from graph.node import closing_stream
from graph.types import Delta, FinishReason, Modality, NodeName, Payload, Reply, Usage


async def collect(deltas: AsyncIterator[Delta], *, node: NodeName) -> Reply:
    """Gather a stream into a `Reply`, and close it.

    Raises `StreamBroken` if it ends without a finish reason: a truncated answer is never a success.
    """
    gathered = Gathered(node)
    async with closing_stream(deltas):
        async for delta in deltas:
            gathered.add(delta)
    return gathered.reply()


class Gathered:
    """The state of a stream that is being collected."""

    def __init__(self, node: NodeName) -> None:
        self.node = node
        self._clear()

    def _clear(self) -> None:
        self.model = self.node
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.attempts = 1
        self.escalated: tuple[NodeName, ...] = ()
        self.cached = False
        self._texts: list[str] = []
        self._refusal = ""
        self._payload: Payload | None = None
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []

    def add(self, delta: Delta) -> None:
        """Take one step of the stream."""
        if delta.reset:
            self._clear()
        self.attempts = delta.attempt or self.attempts
        self.escalated = delta.escalated or self.escalated
        self.cached = delta.cached or self.cached
        if delta.text:
            self._texts.append(delta.text)
        self._refusal += delta.refusal
        self._payload = delta.payload or self._payload
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.node = delta.node or self.node
        self.model = delta.model or self.model
        for fragment in delta.tool_calls:
            self._join_tool_call(fragment)
        if delta.logprobs:
            self._logprobs.extend(delta.logprobs.get("content") or ())

    def _join_tool_call(self, fragment: Mapping[str, Any]) -> None:
        index = fragment.get("index", len(self._tool_calls))
        call = self._tool_calls.setdefault(
            index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = call["id"] or fragment.get("id") or ""
        new = fragment.get("function") or {}
        call["function"]["name"] = call["function"]["name"] or new.get("name") or ""
        call["function"]["arguments"] += new.get("arguments") or ""

    def unfiltered(self) -> Reply:
        """Return what was collected, for whom a part of an answer is none.

        Raises `ContentRefused` if a content filter ended it.
        """
        reply = self.reply()
        if reply.finish_reason == "content_filter":
            refusal = ContentRefused(f"node {self.node!r}: its content filter ended the answer", node=self.node)
            refusal.attempts = self.attempts
            raise refusal
        return reply

    def reply(self) -> Reply:
        """Return what was collected; raise `StreamBroken` if no finish reason came."""
        if self.finish_reason is None:
            raise StreamBroken("the answer was cut before it finished", node=self.node)
        return Reply(
            self._payload or Payload(Modality.TEXT, "".join(self._texts)),
            self.usage,
            self.finish_reason,
            self.node,
            self.model,
            tuple(self._tool_calls[index] for index in sorted(self._tool_calls)),
            self._refusal,
            {"content": self._logprobs} if self._logprobs else None,
            self.escalated,
        )
