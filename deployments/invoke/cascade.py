"""Asks another node when an answer is not good enough, along the `escalates` edges."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import regex

from graph import telemetry as otel
from graph.collect import Gathered
from graph.errors import ModelyardError
from graph.model_graph import ModelGraph
from graph.node import Invoke, closing_stream
from graph.spec import Cascade, Checks
from graph.types import Call, Delta, NodeName, Reply

TOP = 2
"""Likeliest tokens asked for: enough for the lead of the first over the second."""
MATCH_S = 0.1
"""How long an expression may look at an answer: some look at every way to divide it, and the event loop waits."""
Judged = Callable[[NodeName, str], None]
"""Told of each answer that was judged: the node, and the check that failed (empty: none)."""


def escalating(
    invoke: Invoke,
    graph: Callable[[], ModelGraph],
    usable: Callable[[NodeName, Call], bool],
    *,
    max_attempts: int,
    on_judged: Judged,
) -> Invoke:
    """Hold back the answer of a node with a `cascade`; if a check fails, ask the next node instead.

    The next one is the first of `edges.escalates` that can take the call and was not asked; its own `cascade` holds in
    turn. The last node's answer streams as it comes. If it fails before it has said anything, the best there is, the
    answer before it, is given after all. The first delta names the nodes whose answers were dropped.
    """

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        if call.operation != "chat" or _next(graph(), usable, node, call, ()) is None:
            return invoke(node, call)  # nothing to judge: not even a generator is added
        return _Climb(invoke, graph(), usable, max_attempts, on_judged).run(node, call)

    return run


@dataclass(frozen=True, slots=True)
class _Climb:
    """One call's way up."""

    invoke: Invoke
    graph: ModelGraph
    usable: Callable[[NodeName, Call], bool]
    max_attempts: int
    on_judged: Judged

    async def run(self, node: NodeName, call: Call) -> AsyncIterator[Delta]:
        span = otel.cascade_span(node, parent=call.context.trace)
        call = call.with_context(trace=otel.carrier(span) or call.context.trace)
        asked: list[NodeName] = []
        held: list[Delta] = []
        left = call.context.attempts or self.max_attempts
        with otel.recorded(span):
            target: NodeName | None = node
            while target is not None:
                current, target = target, _next(self.graph, self.usable, target, call, (*asked, target))
                within = call.with_context(attempts=left)
                if target is None:
                    async with closing_stream(self._last(current, within, asked, held)) as deltas:
                        async for delta in deltas:
                            yield delta
                    break
                cascade = self.graph[current].cascade
                assert cascade is not None  # noqa: S101  # there is a next one only with a cascade
                held, reply, attempts = await self._whole(current, within, cascade, asked)
                left -= attempts
                failed = unsure(reply, cascade)
                self.on_judged(current, failed or "")
                if failed is None or left <= 0:
                    break
                asked.append(current)
            otel.set_cascade(span, asked)
            if target is not None:
                for delta in held:
                    yield delta

    async def _whole(
        self, node: NodeName, call: Call, cascade: Cascade, asked: list[NodeName]
    ) -> tuple[list[Delta], Reply, int]:
        """Collect one node's answer, to be judged."""
        gathered, held = Gathered(node), list[Delta]()
        async with closing_stream(self.invoke(node, with_logprobs(call, cascade))) as deltas:
            async for delta in deltas:
                if delta.reset:
                    held.clear()
                gathered.add(delta)
                held.append(as_asked(delta, call, cascade))
        return _marked(held, asked), gathered.reply(), gathered.attempts

    async def _last(self, node: NodeName, call: Call, asked: list[NodeName], held: list[Delta]) -> AsyncIterator[Delta]:
        """Stream the last node's answer, or what was held if that fails before it begins."""
        sent = False
        try:
            async with closing_stream(self.invoke(node, call)) as deltas:
                async for delta in deltas:
                    yield delta if sent else replace(delta, escalated=tuple(asked))
                    sent = True
            return
        except ModelyardError:
            if sent or not held:
                raise
        for delta in held:
            yield delta


def unsure(reply: Reply, wanted: Checks) -> str | None:
    """Return which check an answer fails, or None if it is good enough."""
    if reply.refusal or reply.finish_reason == "content_filter":
        return "refusal"
    if reply.tool_calls:
        return None  # what was asked for was a call, and it was made
    text = reply.text.strip()
    if not text:
        return "empty"
    checks: Mapping[str, Callable[[], bool]] = {
        "must_match": lambda: wanted.must_match is not None and _found(wanted.must_match, text) is not True,
        "must_not_match": lambda: (
            wanted.must_not_match is not None and _found(wanted.must_not_match, text) is not False
        ),
        "valid_json": lambda: wanted.valid_json and not _is_json(text),
        "min_logprob": lambda: _below(wanted.min_logprob, reply, lambda token: token.get("logprob")),
        "min_margin": lambda: _below(wanted.min_margin, reply, _margin),
    }
    return next((name for name, fails in checks.items() if fails()), None)


def _next(
    graph: ModelGraph, usable: Callable[[NodeName, Call], bool], node: NodeName, call: Call, asked: tuple[NodeName, ...]
) -> NodeName | None:
    if node not in graph or graph[node].cascade is None:
        return None
    targets = (name for name in graph[node].edges.escalates if name not in asked and name != node)
    return next((name for name in targets if usable(name, call)), None)


def with_logprobs(call: Call, checks: Checks) -> Call:
    """Return the call with the log-probabilities asked for that the checks read."""
    if not checks.reads_logprobs:
        return call
    top = max(TOP, int(call.params.get("top_logprobs") or 0))
    return replace(call, params={**call.params, "logprobs": True, "top_logprobs": top})


def as_asked(delta: Delta, call: Call, checks: Checks) -> Delta:
    """Take away the log-probabilities that the caller did not ask for."""
    if not checks.reads_logprobs or delta.logprobs is None:
        return delta
    if not call.params.get("logprobs"):
        return replace(delta, logprobs=None)
    top = int(call.params.get("top_logprobs") or 0)
    content = [token | {"top_logprobs": token.get("top_logprobs", [])[:top]} for token in delta.logprobs["content"]]
    return replace(delta, logprobs=delta.logprobs | {"content": content})


def _marked(held: list[Delta], asked: list[NodeName]) -> list[Delta]:
    return [replace(held[0], escalated=tuple(asked), reset=False), *held[1:]] if held else held


def _found(pattern: str, text: str) -> bool | None:
    """Say whether an expression is found in a text; None if that takes too long to say."""
    try:
        return regex.search(pattern, text, timeout=MATCH_S) is not None
    except TimeoutError:
        return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _margin(token: Mapping[str, Any]) -> float | None:
    values = sorted((item["logprob"] for item in token.get("top_logprobs") or ()), reverse=True)
    return values[0] - values[1] if len(values) > 1 else None


def _below(least: float | None, reply: Reply, value: Callable[[Mapping[str, Any]], float | None]) -> bool:
    """Say whether the mean over the answer's tokens is too low; an answer without log-probabilities is not judged."""
    if least is None or not reply.logprobs:
        return False
    found = [known for token in reply.logprobs.get("content") or () if (known := value(token)) is not None]
    return bool(found) and sum(found) / len(found) < least
