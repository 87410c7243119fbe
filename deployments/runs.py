"""Runs: accepted, journaled, executed, watched, and taken over after a crash."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from functools import partial

from opentelemetry.trace import Span

from deployments.followers import Followers
from deployments.patience import patiently
from deployments.replanning import MakePlan, plan_rest, prepared
from deployments.run_errors import Described, first_error
from deployments.run_feed import feed
from deployments.run_slots import RunSlots
from deployments.run_work import RunWork
from graph import telemetry as otel
from graph.errors import ModelyardError, Overloaded
from graph.executor import ExecutionLimits, execute
from graph.journal import Orphan, RunJournal, RunRecord
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import Plan
from graph.replan import to_avoid, unhandled
from graph.run import Outcome, RunEvent, RunStatus
from graph.run_options import RunOptions
from graph.run_record import new_run_id
from graph.types import Call, NodeName

log = logging.getLogger("modelyard.runs")

POLL_S = 0.25
"""How often a run that another process works on is looked at."""
RENEW_S = 5.0
"""How often leases are renewed, and runs of dead processes are looked for."""


class Runs:
    """All runs that this process works on."""

    def __init__(
        self,
        journal: RunJournal,
        invoke: Invoke,
        graph: Callable[[], ModelGraph],
        make_plan: MakePlan,
        limits: ExecutionLimits,
        max_runs: int,
        slots: RunSlots,
        on_end: Callable[[str, float, Span], None] = lambda status, seconds, span: None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Work on at most `max_runs` at a time.

        `ready` says whether nodes can be called: a run of a dead process is not taken over before.
        """
        self._journal = journal
        self._invoke = invoke
        self._graph = graph
        self._make_plan = make_plan
        self._limits = limits
        self._max_runs = max_runs
        self._slots = slots
        self._accepting = 0
        self._on_end = on_end
        self._ready = ready
        self.followers = Followers()
        self._works: dict[str, RunWork] = {}
        self._unrecorded: dict[str, Described] = {}
        """Runs that failed here while the store was away: still to be written down."""
        self._background: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin renewing leases and taking over runs whose process died."""
        self._keeper = asyncio.create_task(self._keep())

    async def aclose(self, drain_s: float) -> None:
        """Let runs in flight finish within the limit. What does not is left for another process to take over."""
        tasks = [work.task for work in self._works.values() if work.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        for task in [*tasks, *self._background, *([self._keeper] if self._keeper else [])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def start(
        self,
        call: Call,
        plan: Plan | None = None,
        *,
        span: Span,
        options: RunOptions | None = None,
        id: str | None = None,
    ) -> str:
        """Journal a run, begin it, and return its id: `id`, or a new one.

        Raises `Overloaded` when as many as may be are in progress.
        """
        options = options or RunOptions()
        plan, limit = prepared(plan, options, call, self._graph_for(call))
        if self._room() <= 0:
            raise Overloaded(f"{self._max_runs} runs are in progress here, the most there may be (max_runs)")
        id = id or new_run_id()
        deadline = min(call.context.deadline or float("inf"), time.time() + min(limit, self._limits.total_s))
        call = call.with_context(deadline=deadline)
        self._accepting += 1
        try:
            async with self._slots.taken(call.context.caller, id):
                await self._journal.accept(id, call, plan, otel.trace_id(span), options)
        finally:
            self._accepting -= 1
        whole = otel.workflow_span("plan", parent=span, run=id)
        self._begin(RunWork(id, call, plan, options, whole, None, self._journal))
        return id

    def _graph_for(self, call: Call) -> ModelGraph:
        return self._graph().seen_by(call.context.nodes)

    def _room(self) -> int:
        return self._max_runs - len(self._works) - self._accepting

    async def cancel(self, id: str) -> None:
        """Stop a run that nobody waits for any more; it is recorded as failed. Goes on if the caller is cancelled."""
        work = self._works.get(id)
        if work is not None:
            task = asyncio.create_task(self._stop(work))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            await asyncio.shield(task)

    async def _stop(self, work: RunWork) -> None:
        assert work.task is not None  # noqa: S101  # begun
        work.task.cancel()
        await asyncio.wait([work.task])
        await self._fail(work, {"message": "cancelled by the caller", "code": "cancelled", "param": None})

    async def get(self, id: str) -> RunRecord:
        """Return a run as it stands; raise `RunNotFound`."""
        return await self._journal.get(id)

    async def caller(self, id: str) -> str | None:
        """Return who started a run, in one small read; raise `RunNotFound`."""
        return await self._journal.caller(id)

    def newest(self, limit: int, caller: str | None = None) -> AsyncIterator[RunRecord]:
        """Yield the latest runs, newest first: all, or one caller's."""
        return self._journal.newest(limit, caller)

    def events(self, id: str, after: int = 0) -> AsyncGenerator[tuple[int, RunEvent], None]:
        """Yield a run's events with ids above `after`, and then as they come, until `run.finished`."""
        return feed(self._journal, id, after, self._works.get, POLL_S)

    def _begin(self, work: RunWork) -> None:
        self._works[work.id] = work
        work.task = asyncio.create_task(self._work(work), name=work.id)
        work.task.add_done_callback(lambda _: self._ended(work))

    def _take_over(self, orphan: Orphan) -> None:
        id, call = orphan.record.id, replace(orphan.call, resets=True)
        log.warning("taking over run %s, whose process died", id)
        known = (*orphan.record.outcomes, *orphan.record.parts)
        span = otel.workflow_span("plan", run=id)
        self._begin(RunWork(id, call, orphan.record.plan, orphan.record.options, span, known, self._journal))

    def _ended(self, work: RunWork) -> None:
        if self._works.get(work.id) is work:
            del self._works[work.id]
        work.span.end()  # also of one that was cancelled before it began
        work.writer.close()

    async def _work(self, work: RunWork) -> None:
        began = time.perf_counter()
        span = work.span
        call = work.call.with_context(trace=otel.carrier(span))
        status: str | None = "failed"
        try:
            status = await self._execute(work, call)
        except asyncio.CancelledError as error:
            otel.fail(span, error)
            raise  # by `cancel`, which records it, or by a stopping process, whose runs others take over
        except ModelyardError as error:
            otel.fail(span, error)
            await self._fail(work, error.to_json())
        except ConnectionError as error:  # the store stayed away
            otel.fail(span, error)
            await self._fail(work, ModelyardError(str(error)).to_json())
        except Exception as error:  # a boundary: a bug must not leave a run unfinished forever
            log.exception("run %s failed", work.id)
            otel.fail(span, error)
            await self._fail(work, ModelyardError(f"internal error: {type(error).__name__}").to_json())
        finally:
            if status is not None:
                self._on_end(status, time.perf_counter() - began, span)

    async def _execute(self, work: RunWork, call: Call) -> str | None:
        """Plan and run; return the status, or None if another process has taken the run over."""
        id, plan = work.id, work.plan
        if plan is None:
            plan = work.options.apply(await self._make_plan(call, frozenset()))
            self._graph_for(call).check(plan)
            await patiently(partial(self._journal.planned, id, plan), work.until)
        if work.done is None or not await patiently(partial(self._journal.events, id), work.until):
            await work.writer.write(RunEvent("planned", {"plan": plan.to_json()}))
        done, avoid = work.done, frozenset[NodeName]()
        while True:
            result = await execute(
                plan,
                self._invoke,
                graph=self._graph_for(call),
                request=call,
                on_event=lambda event: self._observe(work, event),
                limits=self._limits,
                done=done,
                on_begin=lambda outcome: self._begins(work, outcome),
            )
            failures = unhandled(plan, result.outcomes) if plan.replan else ()
            avoid |= to_avoid(plan, [*failures, *(o for o in result.outcomes if o.status == "unknown")])
            rest = (
                await plan_rest(self._make_plan, self._graph_for(call), call, plan, result, avoid) if failures else None
            )
            if rest is None:
                break
            # What was paid for outcomes that the new plan has no place for still counts.
            done = tuple({outcome.task: outcome for outcome in (*(done or ()), *result.outcomes)}.values())
            plan = rest
            await patiently(partial(self._journal.planned, id, plan), work.until)
            because = {outcome.task: dict(outcome.error or {}) for outcome in failures}
            await work.writer.write(RunEvent("planned", {"plan": plan.to_json(), "because": because}))
        return result.status if await self._finish(work, result.status, result.output, first_error(result)) else None

    async def _begins(self, work: RunWork, outcome: Outcome) -> None:
        """Note that a task begins which must not be repeated; it never does where the run is another process's."""
        if work.task is not None and not await patiently(partial(self._journal.begins, work.id, outcome), work.until):
            log.warning("run %s is another process's now", work.id)
            work.task.cancel()
            await asyncio.Event().wait()  # for the end of that task, which ends this one

    async def _observe(self, work: RunWork, event: RunEvent) -> None:
        if event.outcome is not None:  # both at once, for a store writes what comes together in one go
            note = partial(self._journal.finished_task, work.id, event.outcome)
            await asyncio.gather(patiently(note, work.until), work.writer.write(event))
        elif event.type != "run.finished":  # written once the journal says so too
            await work.writer.write(event)

    async def _finish(self, work: RunWork, status: RunStatus, output: str, error: Described | None) -> bool:
        """Note the end; False, with nothing written, if the run is no longer this process's."""
        await work.writer.flush()
        end = partial(self._journal.finish, work.id, status, output=output, error=error)
        if not await patiently(end, work.until):
            return False
        await patiently(partial(self._slots.free, work.call.context.caller, work.id), work.until)
        await work.writer.write(RunEvent("run.finished", {"status": status, "output": output, "error": error}))
        return True

    async def _fail(self, work: RunWork, error: Described) -> None:
        try:
            await self._finish(work, "failed", "", error)
        except Exception:  # a boundary: the store may be away; the keeper writes it down later
            log.exception("the end of run %s could not be written", work.id)
            self._unrecorded[work.id] = error

    async def _keep(self) -> None:
        claims_from = 0.0
        while True:
            try:
                await self._renew()
                if self._ready() and time.monotonic() >= claims_from:
                    for orphan in await self._journal.claim_orphans(max(0, self._room())):
                        self._take_over(orphan)
            except Exception:  # a boundary: the store may be away for a while; leases outlive several rounds
                log.exception("leases could not be renewed")
                # Others could not renew theirs either: they go first, so that no run is taken from who works on it.
                claims_from = time.monotonic() + 2 * RENEW_S
            await asyncio.sleep(RENEW_S)

    async def _renew(self) -> None:
        """Extend leases; stop work on runs that another process has taken over, and say nothing of them."""
        for id in await self._journal.renew():
            log.warning("run %s is another process's now", id)
            if (work := self._works.get(id)) and work.task is not None:
                work.task.cancel()
        for id, error in list(self._unrecorded.items()):
            await self._journal.finish(id, "failed", output="", error=error)
            del self._unrecorded[id]
