"""Brings one task of a run to its outcome: a call, a call for each item of a list, or calls until a condition holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graph.binding import bind
from graph.collect import Gathered
from graph.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelyardError,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)
from graph.ledger import Ledger
from graph.model_graph import ModelGraph
from graph.node import Invoke, closing_stream
from graph.run import Outcome, RunEvent
from graph.scope import NOTHING, Scope, parsed, plain
from graph.task import MAX_ITEMS, Task
from graph.types import Call, Delta, Reply, Usage, json_payload


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the tasks of one run share."""

    invoke: Invoke
    graph: ModelGraph
    request: Call
    """With the run's deadline."""
    ledger: Ledger
    places: asyncio.Semaphore
    emit: Callable[[RunEvent], Awaitable[None]]
    say: Callable[[str, Delta], Awaitable[None]]
    """Takes the text of a task's answer as it comes."""
    last: frozenset[str]
    """Tasks that no other needs."""
    shown: frozenset[str]
    """Tasks that the answer shows."""
    parts: Mapping[tuple[str, int], Outcome]
    """Items and iterations that are not tried again, from before the run was interrupted."""
    begin: Callable[[Outcome], Awaitable[None]]
    """Takes what is known of a task that must not be repeated if it is interrupted now."""


class TaskRun:
    """One task, once those that it needs have ended."""

    def __init__(self, task: Task, scope: Scope, around: Surroundings) -> None:
        self._task = task
        self._scope = scope
        self._around = around
        self._once = asked_once(task, around.graph)

    async def outcome(self) -> Outcome:
        """Run the task. Expected failures are outcomes; only bugs raise."""
        task = self._task
        try:
            if task.when is not None and not self._scope.holds(task.when):
                return skipped(task, "condition_false", f"when: {task.when} is false")
        except ModelyardError as error:
            return self._failed(error, "when")
        if not task.map and not task.repeat:
            return await self._call(self._scope, None)
        if refused := self._refusal(None):
            return refused
        started = await self._start()
        try:
            parts = await (self._items() if task.map else self._iterations())
        except ModelyardError as error:
            return replace(self._failed(error, "map" if task.map else "repeat"), started_at=started)
        made = self._listed(parts) if task.map else self._last_of(parts)
        return _sum(replace(made, started_at=started, ended_at=time.time(), index=None), parts)

    async def _items(self) -> list[Outcome]:
        """Run the task for each item; order is the list's."""
        assert self._task.map is not None  # noqa: S101  # `outcome` has looked
        items = parsed(self._scope.resolve(self._task.map.over))
        if not isinstance(items, list):
            raise InvalidRequest(f"{str(plain(items))[:80]!r} is no list")
        if len(items) > MAX_ITEMS:
            raise InvalidRequest(f"the list has {len(items)} items; at most {MAX_ITEMS} are allowed")
        free = asyncio.Semaphore(self._task.map.parallel)

        async def run(index: int, item: Any) -> Outcome:
            async with free:
                return await self._part(self._scope.naming(item=item, index=index), index)

        async with asyncio.TaskGroup() as group:
            running = [group.create_task(run(index, item)) for index, item in enumerate(items)]
        return [task.result() for task in running]

    async def _iterations(self) -> list[Outcome]:
        """Run the task again until its condition holds; the last outcome has an error if it never did."""
        assert self._task.repeat is not None  # noqa: S101  # `outcome` has looked
        repeat, parts, previous = self._task.repeat, list[Outcome](), NOTHING
        for index in range(repeat.max):
            scope = self._scope.naming(index=index, previous=previous)
            parts.append(await self._part(scope, index))
            reply = parts[-1].reply
            if parts[-1].status != "ok" or reply is None or scope.naming(output=reply.payload).holds(repeat.until):
                return parts
            previous = reply.payload
        message = f"repeat: {repeat.until} did not hold after {repeat.max} iteration(s)"
        parts[-1] = replace(parts[-1], error=_described(message, "repeat_exhausted"))
        return parts

    async def _part(self, scope: Scope, index: int) -> Outcome:
        known = self._around.parts.get((self._task.id, index))
        if known is not None and not known.under_way:
            return known
        outcome = interrupted(known) if known is not None else await self._call(scope, index)
        await self._around.emit(RunEvent("task.item", outcome.to_json(), outcome))
        return outcome

    def _listed(self, parts: list[Outcome]) -> Outcome:
        """Return the outcome of a `map`: a list, with null for what failed."""
        bad = [part for part in parts if part.status != "ok"]
        error = None
        if bad:
            first = (bad[0].error or {}).get("message", bad[0].status)
            message = f"{len(bad)} of {len(parts)} items failed; item {bad[0].index}: {first}"
            error = _described(message, "items_failed")
        values = [plain(part.reply.payload) if part.status == "ok" and part.reply else None for part in parts]
        reply = Reply(json_payload(values), _usage(parts), "stop", self._task.node, self._task.node)
        lost = bool(parts) and len(bad) == len(parts)
        return Outcome(self._task.id, self._task.node, "failed" if lost else "ok", None if lost else reply, error)

    def _last_of(self, parts: list[Outcome]) -> Outcome:
        """Return the outcome of a `repeat`: its last iteration's."""
        last = parts[-1]
        status = "failed" if last.status == "skipped" else last.status  # it has begun
        reply = replace(last.reply, usage=_usage(parts)) if last.reply else None
        return replace(last, status=status, reply=reply)

    async def _call(self, scope: Scope, index: int | None) -> Outcome:
        around = self._around
        async with around.places:
            if refused := self._refusal(index):
                return refused
            around.ledger.begin()
            try:
                outcome = await self._attempt(scope, index)
            finally:
                around.ledger.end()
        around.ledger.charge(outcome)
        return outcome

    def _refusal(self, index: int | None) -> Outcome | None:
        """Return why nothing more may be asked in this run, if so."""
        reason, code = self._around.ledger.exhausted(), "budget_exceeded"
        if reason is None and self._left() <= 0:
            reason, code = "deadline: its time is over", "deadline_exceeded"
        return replace(skipped(self._task, code, f"the run's budget: {reason}"), index=index) if reason else None

    def _left(self) -> float:
        return (self._around.request.context.deadline or float("inf")) - time.time()

    async def _start(self) -> float:
        started = time.time()
        data = {"task": self._task.id, "node": self._task.node, "started_at": started}
        await self._around.emit(RunEvent("task.started", data))
        return started

    async def _attempt(self, scope: Scope, index: int | None) -> Outcome:
        started = await self._start() if index is None else time.time()
        gathered = Gathered(self._task.node)
        if self._once:
            await self._around.begin(under_way(self._task, started, index))
        try:
            reply = await self._reply(scope, gathered, index)
            cached, attempts = gathered.cached, 0 if gathered.cached else gathered.attempts
            made = Outcome(
                self._task.id, reply.node, "ok", reply, None, attempts, cached=cached, cost=self._cost(reply)
            )
            made = made if not cached else replace(made, cost=0.0)
            made = self._expected(made, scope.naming(output=reply.payload))
        except ModelyardError as error:
            made = self._failed(error)
            if self._once and error.attempts and _in_the_dark(error):
                made = replace(made, status="unknown")
        return replace(made, started_at=started, ended_at=time.time(), index=index)

    def _expected(self, made: Outcome, scope: Scope) -> Outcome:
        expect = self._task.expect
        if expect is None or scope.holds(expect):
            return made
        output = made.reply.text if made.reply else ""
        message = f"expect: {expect} is false; the output is {output[:200]!r}"
        return replace(made, status="failed", error=_described(message, "unexpected_output"))

    async def _reply(self, scope: Scope, gathered: Gathered, index: int | None) -> Reply:
        around, task = self._around, self._task
        call = bind(task, around.graph[task.node], scope, last=task.id in around.last)
        resets = around.request.resets or task.id not in around.shown or index is not None
        call = around.ledger.limit(replace(call, stream=True, resets=resets))
        call = call.with_context(attempts=1) if self._once else call
        left = self._left()
        try:
            async with asyncio.timeout(left), closing_stream(around.invoke(task.node, call)) as deltas:
                async for delta in deltas:
                    gathered.add(delta)
                    await self._forward(delta, index)
        except TimeoutError:
            raise DeadlineExceeded("run", round(left, 3), node=task.node) from None
        return gathered.unfiltered()

    async def _forward(self, delta: Delta, index: int | None) -> None:
        if delta.text or delta.reset:
            data = {"task": self._task.id, "text": delta.text} | ({"reset": True} if delta.reset else {})
            await self._around.emit(RunEvent("task.delta", data | ({"index": index} if index is not None else {})))
            if index is None:
                await self._around.say(self._task.id, delta)

    def _cost(self, reply: Reply) -> float:
        if reply.usage is None or reply.usage.cost is not None:
            return reply.usage.cost or 0.0 if reply.usage else 0.0
        if reply.node not in self._around.graph:
            return 0.0
        price = self._around.graph[reply.node].cost
        taken = (
            reply.usage.prompt_tokens * price.input_per_million
            + reply.usage.completion_tokens * price.output_per_million
        )
        return taken / 1e6

    def _failed(self, error: ModelyardError, key: str | None = None) -> Outcome:
        described = error.to_json()
        if key is not None:
            described |= {"message": f"{key}: {error.message}", "param": f"tasks.{self._task.id}.{key}"}
        node = error.node or self._task.node
        return Outcome(self._task.id, node, "failed", None, described, error.attempts if key is None else 0)


def asked_once(task: Task, graph: ModelGraph) -> bool:
    """Say whether a task must not be asked for twice, by itself or by its node."""
    return not task.idempotent or (task.node in graph and not graph[task.node].idempotent)


def under_way(task: Task, started_at: float, index: int | None) -> Outcome:
    """Return what is known of a task that has begun, should nobody see its end."""
    error = _described("it was interrupted, must not be repeated, and may have been done", "outcome_unknown")
    return Outcome(task.id, task.node, "unknown", None, error, 1, started_at=started_at, index=index)


def interrupted(outcome: Outcome) -> Outcome:
    """Return the outcome of a task that was under way in a run that was interrupted."""
    return replace(outcome, ended_at=time.time())


def _in_the_dark(error: ModelyardError) -> bool:
    """Say whether a call that ended with an error may still have been done: no answer told."""
    if isinstance(error, NodeUnavailable):
        return error.status is None
    return isinstance(error, (NodeUnreachable, StreamBroken, DeadlineExceeded))


def skipped(task: Task, code: str, message: str) -> Outcome:
    """Return the outcome of a task that nothing was asked for."""
    return Outcome(task.id, task.node, "skipped", error={"message": message, "code": code})


def lost_needs(task: Task, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Return that a task is skipped, because one that it cannot do without gave nothing."""
    lost = sorted(need for need in task.requires if outcomes[need].status != "ok")
    if not lost:
        return None
    if all(outcomes[need].unneeded for need in lost):
        return skipped(task, "dependency_skipped", f"needs {', '.join(lost)}, which the plan's conditions left out")
    return skipped(task, "dependency_failed", f"needs {', '.join(lost)}, which did not succeed")


def _described(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "code": code, "param": None}


def _usage(parts: Iterable[Outcome]) -> Usage | None:
    """Return the tokens of all parts together, in the first place of those that were really asked."""
    found = [part.reply.usage for part in parts if part.reply and part.reply.usage and not part.cached]
    return sum(found, Usage()) if found else None


def _sum(outcome: Outcome, parts: list[Outcome]) -> Outcome:
    """Add up what the parts took."""
    return replace(
        outcome,
        attempts=sum(part.attempts for part in parts),
        cost=sum(part.cost for part in parts),
        cached=bool(parts) and all(part.cached for part in parts),
        parts=tuple(replace(part, reply=None) for part in parts),
    )
