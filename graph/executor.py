"""Runs a plan: every task as soon as those it needs have ended, all independent ones at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TypeAlias

from graph.compose import Composer
from graph.ledger import Ledger
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import Plan, Task
from graph.run import EventType, Outcome, RunEvent, RunResult, RunStatus
from graph.scope import Scope
from graph.task_run import Surroundings, TaskRun, asked_once, interrupted, lost_needs
from graph.types import Call

OnEvent: TypeAlias = Callable[[RunEvent], Awaitable[None]]
"""Takes every event. Tasks call it at the same time: what it does before it first waits is done in order."""
OnBegin: TypeAlias = Callable[[Outcome], Awaitable[None]]
"""Takes the outcome that a task which must not be repeated has if it is interrupted; asked before the task is."""


async def _forgets(_: Outcome) -> None:
    """Note nothing: for a run that nobody could resume."""


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
    done: Sequence[Outcome] | None = None,
    on_begin: OnBegin = _forgets,
) -> RunResult:
    """Run a plan to its end and return every task's outcome. Expected failures become outcomes; only bugs raise.

    `done` holds outcomes of an interrupted run, of items and iterations too, and is None for a new one: what ended
    well is neither run nor reported again, and what must not be repeated is not, however it ended. A resumed run
    begins with an `output.delta` that voids the answer so far, and a `task.started` voids what an interrupted task had
    said. `on_begin` is asked before what must not be repeated begins. Cancelling the caller cancels every task.
    """
    return await _Execution(plan, invoke, graph, request, on_event, limits, done, on_begin).run()


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
        done: Sequence[Outcome] | None,
        on_begin: OnBegin,
    ) -> None:
        self._plan, self._on_event = plan, on_event
        deadline = min(request.context.deadline or float("inf"), time.time() + limits.total_s)
        if plan.budget is not None and plan.budget.deadline_s is not None and done is None:
            deadline = min(deadline, time.time() + plan.budget.deadline_s)
        self._request = request.with_context(deadline=deadline)
        self._resumed = done is not None
        whole = [outcome for outcome in done or () if outcome.index is None]
        once = {task.id for task in plan.tasks if asked_once(task, graph)}
        stands = [o for o in whole if o.status == "ok" or o.unneeded or (o.task in once and o.attempts)]
        self._outcomes = {outcome.task: outcome for outcome in stands if not outcome.under_way}
        self._kept = frozenset(self._outcomes)
        self._interrupted = {outcome.task: interrupted(outcome) for outcome in stands if outcome.under_way}
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._composer = Composer(plan, self._emit_output, request.text)
        ledger = Ledger(plan.budget.within(request.context.budget) if plan.budget else request.context.budget)
        ended = {outcome.task for outcome in whole}
        for outcome in done or ():
            if outcome.index is None or outcome.task not in ended:
                ledger.charge(outcome)
        self._around = Surroundings(
            invoke,
            graph,
            self._request,
            ledger,
            asyncio.Semaphore(limits.parallel),
            on_event,
            self._composer.delta,
            frozenset(plan.sinks),
            frozenset(plan.shown),
            {(o.task, o.index): o for o in done or () if o.index is not None and (o.status == "ok" or o.task in once)},
            on_begin,
        )

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
        output = await self._composer.close(outcomes, self._scope([task.id for task in self._plan.tasks]))
        status = status_of(outcomes)
        await self._on_event(RunEvent("run.finished", {"status": status, "output": output}))
        return RunResult(status, outcomes, output)

    async def _settle(self, task: Task) -> None:
        """Bring one task to its outcome, whatever that is."""
        if task.id not in self._kept:
            outcome = self._interrupted.get(task.id) or lost_needs(task, self._outcomes)
            if outcome is None:
                outcome = await TaskRun(task, self._scope(task.needs), self._around).outcome()
            self._outcomes[task.id] = outcome
            kind: EventType = "task.skipped" if outcome.status == "skipped" else "task.finished"
            await self._on_event(RunEvent(kind, outcome.to_json(), outcome))
        await self._composer.finished(self._outcomes[task.id])
        self._ended.put_nowait(task.id)

    def _scope(self, tasks: Iterable[str]) -> Scope:
        found = [self._outcomes[id] for id in tasks]
        replies = {outcome.task: outcome.reply for outcome in found if outcome.status == "ok" and outcome.reply}
        return Scope(replies, self._request, {outcome.task: outcome.status for outcome in found})

    async def _emit_output(self, text: str, replaces: bool) -> None:
        await self._on_event(RunEvent("output.delta", {"text": text} | ({"reset": True} if replaces else {})))


def status_of(outcomes: Iterable[Outcome]) -> RunStatus:
    """Return `ok` if every task gave all it should, `failed` if none gave anything, else `partial`.

    What the plan's own conditions left out counts for neither.
    """
    counted = [outcome for outcome in outcomes if not outcome.unneeded]
    if all(outcome.whole for outcome in counted):
        return "ok"
    return "partial" if any(outcome.status == "ok" for outcome in counted) else "failed"
