"""Runs a plan: every task as soon as those it needs have ended, all independent ones at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import TypeAlias, cast

from graph.binding import bind
from graph.collect import Gathered
from graph.compose import Composer
from graph.errors import DeadlineExceeded, ModelyardError
from graph.model_graph import ModelGraph
from graph.node import Invoke, closing_stream
from graph.plan import Plan, Task
from graph.run import EventType, Outcome, RunEvent, RunResult, RunStatus
from graph.types import Call, Delta, Reply

OnEvent: TypeAlias = Callable[[RunEvent], Awaitable[None]]
"""Takes every event. Tasks call it at the same time: what it does before it first waits is done in order."""


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """Bounds on one run."""

    parallel: int = 16
    """Tasks that run at the same time."""
    total_s: float = 600.0


async def execute(
    plan: Plan,
    invoke: Invoke,
    *,
    graph: ModelGraph,
    request: Call,
    on_event: OnEvent,
    limits: ExecutionLimits = ExecutionLimits(),  # a frozen value
    done: Mapping[str, Outcome] | None = None,
) -> RunResult:
    """Run a plan to its end and return every task's outcome. Expected failures become outcomes; only bugs raise.

    `done` holds outcomes of an interrupted run, and is None for a new one: tasks that ended well are neither run nor
    reported again. A resumed run begins with an `output.delta` that voids the answer so far, and a `task.started` voids
    what an interrupted task had said. Cancelling the caller cancels every task.
    """
    return await _Execution(plan, invoke, graph, request, on_event, limits, done).run()


class _Execution:
    """The state of one run."""

    def __init__(
        self,
        plan: Plan,
        invoke: Invoke,
        graph: ModelGraph,
        request: Call,
        on_event: OnEvent,
        limits: ExecutionLimits,
        done: Mapping[str, Outcome] | None,
    ) -> None:
        self._plan, self._invoke, self._graph, self._on_event = plan, invoke, graph, on_event
        deadline = min(request.context.deadline or float("inf"), time.time() + limits.total_s)
        self._request = request.with_context(deadline=deadline)
        self._resumed = done is not None
        self._done = {id: outcome for id, outcome in (done or {}).items() if outcome.status == "ok"}
        self._outcomes = dict(self._done)
        self._places = asyncio.Semaphore(limits.parallel)
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._composer = Composer(plan, self._emit_output)
        self._sinks, self._shown = frozenset(plan.sinks), frozenset(plan.shown)

    async def run(self) -> RunResult:
        sorter = TopologicalSorter({task.id: task.needs for task in self._plan.tasks})
        sorter.prepare()
        tasks = {task.id: task for task in self._plan.tasks}
        if self._resumed:
            await self._emit_output("", True)
        async with asyncio.TaskGroup() as group:
            while sorter.is_active():
                for id in sorter.get_ready():
                    group.create_task(self._settle(tasks[id]))
                sorter.done(await self._ended.get())
        outcomes = tuple(self._outcomes[task.id] for task in self._plan.tasks)
        output = await self._composer.close(outcomes)
        status = _status(outcomes)
        await self._on_event(RunEvent("run.finished", {"status": status, "output": output}))
        return RunResult(status, outcomes, output)

    async def _settle(self, task: Task) -> None:
        """Bring one task to its outcome, whatever that is."""
        outcome = self._done.get(task.id)
        if outcome is None:
            outcome = self._outcomes[task.id] = self._skip_reason(task) or await self._placed(task)
            kind: EventType = "task.skipped" if outcome.status == "skipped" else "task.finished"
            await self._on_event(RunEvent(kind, outcome.to_json(), outcome))
        await self._composer.finished(outcome)
        self._ended.put_nowait(task.id)

    def _skip_reason(self, task: Task) -> Outcome | None:
        lost = sorted(need for need in task.needs if self._outcomes[need].status != "ok")
        if not lost:
            return None
        message = f"needs {', '.join(lost)}, which did not succeed"
        return Outcome(task.id, task.node, "skipped", error={"message": message, "code": "dependency_failed"})

    async def _placed(self, task: Task) -> Outcome:
        async with self._places:
            return await self._attempt(task)

    async def _attempt(self, task: Task) -> Outcome:
        started = time.time()
        await self._on_event(RunEvent("task.started", {"task": task.id, "node": task.node, "started_at": started}))
        gathered = Gathered(task.node)
        try:
            reply = await self._reply(task, gathered)
        except ModelyardError as error:
            node = error.node or task.node
            return Outcome(task.id, node, "failed", None, error.to_json(), error.attempts, started, time.time())
        return Outcome(task.id, reply.node, "ok", reply, None, gathered.attempts, started, time.time())

    async def _reply(self, task: Task, gathered: Gathered) -> Reply:
        replies = {id: cast(Reply, o.reply) for id, o in self._outcomes.items() if o.status == "ok"}
        call = bind(task, self._graph[task.node], replies, self._request, last=task.id in self._sinks)
        call = replace(call, stream=True, resets=self._request.resets or task.id not in self._shown)
        left = (self._request.context.deadline or 0) - time.time()
        if left <= 0:
            raise DeadlineExceeded("run", 0, node=task.node)
        try:
            async with asyncio.timeout(left), closing_stream(self._invoke(task.node, call)) as deltas:
                async for delta in deltas:
                    gathered.add(delta)
                    await self._forward(task, delta)
        except TimeoutError:
            raise DeadlineExceeded("run", round(left, 3), node=task.node) from None
        return gathered.reply()

    async def _forward(self, task: Task, delta: Delta) -> None:
        if delta.text or delta.reset:
            data = {"task": task.id, "text": delta.text} | ({"reset": True} if delta.reset else {})
            await self._on_event(RunEvent("task.delta", data))
            await self._composer.delta(task.id, delta)

    async def _emit_output(self, text: str, replaces: bool) -> None:
        await self._on_event(RunEvent("output.delta", {"text": text} | ({"reset": True} if replaces else {})))


def _status(outcomes: tuple[Outcome, ...]) -> RunStatus:
    """`ok` if every task ended well, `failed` if none did, else `partial`."""
    ok = {outcome.task for outcome in outcomes if outcome.status == "ok"}
    if len(ok) == len(outcomes):
        return "ok"
    return "partial" if ok else "failed"
