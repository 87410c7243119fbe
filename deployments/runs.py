"""Runs: accepted, journaled, executed, watched, and taken over after a crash."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

from opentelemetry.trace import Span

from graph import telemetry as otel
from graph.errors import ModelyardError
from graph.executor import ExecutionLimits, execute
from graph.journal import RunJournal, RunRecord
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import Plan
from graph.run import RunEvent
from graph.types import Call

log = logging.getLogger("modelyard.runs")

FLUSH_S = 0.02
"""How long token events may wait to be written together."""
POLL_S = 0.25
"""How often a run that another process works on is looked at."""
RENEW_S = 5.0
"""How often leases are renewed, and runs of dead processes are looked for."""

MakePlan = Callable[[Call], Awaitable[Plan]]


class Runs:
    """All runs that this process works on."""

    def __init__(
        self,
        journal: RunJournal,
        invoke: Invoke,
        graph: Callable[[], ModelGraph],
        make_plan: MakePlan,
        limits: ExecutionLimits,
        on_end: Callable[[str, float], None] = lambda status, seconds: None,
    ) -> None:
        self._journal = journal
        self._invoke = invoke
        self._graph = graph
        self._make_plan = make_plan
        self._limits = limits
        self._on_end = on_end
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin renewing leases and taking over runs whose process died."""
        self._keeper = asyncio.create_task(self._keep())

    async def aclose(self, drain_s: float) -> None:
        """Let runs in flight finish within the limit. What does not is left for another process to take over."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=drain_s)
        for task in [*self._tasks.values(), *([self._keeper] if self._keeper else [])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def start(self, call: Call, plan: Plan | None = None, *, span: Span) -> str:
        """Journal a run, begin it, and return its id."""
        id = f"run_{uuid.uuid4().hex}"
        if plan is not None:
            self._graph().check(plan)
        await self._journal.accept(id, call, plan, otel.trace_id(span))
        self._begin(await self._journal.get(id), otel.carrier(span))
        return id

    async def cancel(self, id: str) -> None:
        """Stop a run that nobody waits for any more; it is recorded as failed."""
        task = self._tasks.get(id)
        if task is not None:
            task.cancel("cancelled by the caller")
            await asyncio.gather(task, return_exceptions=True)

    async def get(self, id: str) -> RunRecord:
        """Return a run as it stands; raise `RunNotFound`."""
        return await self._journal.get(id)

    async def list(self, limit: int) -> tuple[RunRecord, ...]:
        """Return the latest runs."""
        return await self._journal.list(limit)

    async def events(self, id: str, after: int = 0) -> AsyncIterator[tuple[int, RunEvent]]:
        """Yield a run's events with ids above `after`, and then as they come, until `run.finished`."""
        await self._journal.get(id)
        while True:
            changed = self._changed.get(id)
            for number, event in await self._journal.events(id, after):
                after = number
                yield number, event
                if event.type == "run.finished":
                    return
            await _wait(changed)

    def _begin(self, record: RunRecord, trace: dict[str, str]) -> None:
        self._changed[record.id] = asyncio.Event()
        task = asyncio.create_task(self._work(record, trace), name=record.id)
        self._tasks[record.id] = task
        task.add_done_callback(lambda _: self._ended(record.id))

    def _ended(self, id: str) -> None:
        self._tasks.pop(id, None)
        if changed := self._changed.pop(id, None):
            changed.set()

    async def _work(self, record: RunRecord, trace: dict[str, str]) -> None:
        began = time.perf_counter()
        writer = _EventWriter(self._journal, record.id, self._changed[record.id])
        span = otel.workflow_span("plan", parent=trace, run=record.id)
        call = record.call.with_context(trace=otel.carrier(span) or trace)
        status = "failed"
        try:
            status = await self._execute(record, call, writer)
        except asyncio.CancelledError as error:
            if error.args:  # our own `cancel`: a stopping process leaves the run to be taken over
                await self._fail(record, ModelyardError("cancelled by the caller"), writer)
            otel.fail(span, error)
            raise
        except ModelyardError as error:
            otel.fail(span, error)
            await self._fail(record, error, writer)
        except Exception as error:  # a boundary: a bug must not leave a run unfinished forever
            log.exception("run %s failed", record.id)
            otel.fail(span, error)
            await self._fail(record, ModelyardError(f"internal error: {type(error).__name__}"), writer)
        finally:
            span.end()
            self._on_end(status, time.perf_counter() - began)

    async def _execute(self, record: RunRecord, call: Call, writer: _EventWriter) -> str:
        plan = record.plan
        if plan is None:
            plan = await self._make_plan(call)
            await self._journal.planned(record.id, plan)
        await writer.write(RunEvent("planned", {"plan": plan.to_json()}))
        result = await execute(
            plan,
            self._invoke,
            graph=self._graph(),
            request=call,
            on_event=lambda event: self._observe(record.id, writer, event),
            limits=self._limits,
            done={outcome.task: outcome for outcome in record.outcomes},
        )
        error = None
        if result.status == "failed":
            first = next((o.error for o in result.outcomes if o.status == "failed"), None)
            error = dict(first) if first else None
        await self._journal.finish(record.id, result.status, output=result.output, error=error)
        await writer.write(RunEvent("run.finished", {"status": result.status, "output": result.output, "error": error}))
        return result.status

    async def _observe(self, id: str, writer: _EventWriter, event: RunEvent) -> None:
        if event.outcome is not None:
            await self._journal.finished_task(id, event.outcome)
        if event.type != "run.finished":  # written once the journal says so too
            await writer.write(event)

    async def _fail(self, record: RunRecord, error: ModelyardError, writer: _EventWriter) -> None:
        described = {"message": error.message, "code": error.code, "param": error.param}
        await self._journal.finish(record.id, "failed", output="", error=described)
        await writer.write(RunEvent("run.finished", {"status": "failed", "output": "", "error": described}))

    async def _keep(self) -> None:
        while True:
            try:
                await self._journal.renew()
                for record in await self._journal.claim_orphans():
                    log.warning("taking over run %s, whose process died", record.id)
                    self._begin(record, {})
            except Exception:  # a boundary: the store may be away for a while; leases outlive several rounds
                log.exception("leases could not be renewed")
            await asyncio.sleep(RENEW_S)


class _EventWriter:
    """Journals events in order; tokens that come within a moment are written together."""

    def __init__(self, journal: RunJournal, id: str, changed: asyncio.Event) -> None:
        self._journal = journal
        self._id = id
        self._changed = changed
        self._waiting: list[RunEvent] = []
        self._lock = asyncio.Lock()
        self._flushed = 0.0

    async def write(self, event: RunEvent) -> None:
        self._waiting.append(event)
        if event.type.endswith(".delta") and time.monotonic() - self._flushed < FLUSH_S:
            return
        async with self._lock:
            events, self._waiting = self._waiting, []
            if events:
                await self._journal.append_events(self._id, events)
            self._flushed = time.monotonic()
        self._changed.set()
        self._changed.clear()


async def _wait(changed: asyncio.Event | None) -> None:
    """Wait until this process writes an event, or for a while if another one does."""
    if changed is None:
        await asyncio.sleep(POLL_S)
        return
    try:
        async with asyncio.timeout(POLL_S):
            await changed.wait()
    except TimeoutError:
        return
