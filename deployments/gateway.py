"""One gateway process: everything that a request needs, put together in one place."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span

from deployments.access.security import make_security
from deployments.canary_watch import Watch
from deployments.exploration import make_exploration
from deployments.feedback import FeedbackLog
from deployments.function_calling import FunctionCaller
from deployments.heap import spare_the_collector
from deployments.intake import Intake
from deployments.invoke.breaker import CircuitBreaker
from deployments.invoke.cache import OutputCache, cached
from deployments.invoke.canary import on_trial
from deployments.invoke.charge import charged
from deployments.invoke.permitted import permitted
from deployments.invoke.stack import Policies, compose
from deployments.lessons import lesson, lessons_hash
from deployments.metrics import Metrics, metered
from deployments.orchestrator import Orchestrator
from deployments.placement import Placement
from deployments.quality import QualityLearning
from deployments.registration import RegistrationGate, Skipped, refusal
from deployments.rollouts import Rollouts
from deployments.router_parts import encoder_of, policy_of
from deployments.router_versions import RouterVersions
from deployments.run_slots import RunSlots
from deployments.runs import Runs
from deployments.settings import Settings
from deployments.snapshot import Snapshot
from deployments.telemetry import configure_telemetry
from deployments.traffic import Traffic
from deployments.trained_planner import make_planner
from deployments.trained_router import TrainedRouter
from graph import telemetry as otel
from graph.executor import ExecutionLimits
from graph.journal import RunJournal
from graph.model_graph import ModelGraph
from graph.node import installed_kinds
from graph.registry import NodeVersion, Registry
from graph.spec import NodeSpec
from graph.stores import make_store
from graph.tracing import traced
from graph.types import NodeName
from router.gate import GateReport
from router.router import Router

log = logging.getLogger("modelyard.gateway")


class Gateway:
    """The parts of one gateway process. `start` opens them, `stop` drains and closes them."""

    def __init__(self, settings: Settings, controller: Any, intake: Intake | None = None) -> None:
        self.settings = settings
        self.kinds = installed_kinds()
        self.store = make_store(settings.store)
        self.registry = Registry(self.store)
        self.security = make_security(settings, self.store)
        self.metrics = Metrics()
        self.intake = intake or Intake()
        self.snapshot = Snapshot()
        self.ready = False
        self._controller = controller
        self._placement = Placement(self.kinds, settings, lambda node, call: self._invoke(node, call), self._graph)
        self.router = Router(
            encoder_of(settings),
            policy_of(settings),
            strategy=settings.strategy,
            latency=self.metrics.latencies.of,
            rewrite=settings.rewrite,
        )
        self.traffic = Traffic(settings.recent_requests, shared=self.store if settings.recent_in_store else None)
        self._gate = RegistrationGate(self.router.scorer_for, settings, self.traffic.recent)
        rows = settings.quality_data
        self.feedback = FeedbackLog(self.store, self.traffic, rated=rows is not None, teachers=settings.teachers)
        self.quality = QualityLearning(rows, self.router, self.feedback, self.store) if rows is not None else None
        self.exploration = make_exploration(settings, self.router, self.traffic, self.store)
        self.canary_watch = Watch(Rollouts(self.store), self.store, self.metrics.tried)
        self._trials: asyncio.Task[None] | None = None
        self.router_versions = RouterVersions(self.store)
        self._registering = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._flags: asyncio.Task[None] | None = None
        self._exploring: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        trained = settings.router_artifact
        self._trained = TrainedRouter(trained, self.router, self._refit) if trained else None
        self._retraining: asyncio.Task[None] | None = None
        self._telemetry = configure_telemetry(
            service_name="modelyard",
            otlp_endpoint=settings.otlp_endpoint,
            sample_ratio=settings.trace_ratio,
            max_traces_per_s=settings.traces_per_s,
            slow_s=settings.trace_slow_s,
            keep_errors=settings.trace_errors,
            store_url=settings.store,
            instance_id=f"{socket.gethostname()}-{os.getpid()}",
            edge=True,
            registry=self.metrics.registry,
        )
        self._assemble(settings)

    def _assemble(self, settings: Settings) -> None:
        self._breaker = CircuitBreaker(on_change=self.metrics.breaker_changed)
        outputs = OutputCache(self.store, entries=settings.output_cache_entries, ttl_s=settings.output_cache_ttl_s)
        policies = Policies(
            graph=self._graph,
            usable=lambda node, call: self.orchestrator.usable(node, call),
            on_fallback=self.metrics.fell_back,
            on_judged=self.metrics.judged,
            lookup=self._spec,
            on_trial=lambda inner: on_trial(
                inner, lambda: self.snapshot.canaries, self.canary_watch, max_attempts=settings.max_attempts
            ),
            on_queued=self.metrics.queued,
            max_attempts=settings.max_attempts,
            breaker=self._breaker,
            observers=(
                lambda inner: traced(inner, self._spec, capture_content=settings.capture_content),
                lambda inner: cached(inner, self._spec, outputs) if settings.output_cache_entries else inner,
                lambda inner: metered(inner, self.metrics, self._spec),
                lambda inner: charged(inner, self.security.quotas.charge, self._spec),
            ),
        )
        stack = compose(self._placement.invoke, policies)
        invoke = self._invoke = permitted(stack.invoke)
        self._forget_calls = stack.forget
        self.orchestrator = Orchestrator(
            kinds=self.kinds,
            snapshot=lambda: self.snapshot,
            router=self.router,
            planner=make_planner(settings, self.router, invoke),
            invoke=invoke,
            on_routed=self.metrics.routed,
            on_planned=self.metrics.stages["plan"].observe,
            on_decided=self.traffic.add,
            adjust=self.exploration.adjust if self.exploration else None,
            functions=FunctionCaller(None if settings.strategy == "keyword" else self.router.encoder),
        )
        owner = f"{socket.gethostname()}-{os.getpid()}"
        journal = RunJournal(self.store, owner=owner, retention_s=settings.run_retention_s)
        self.runs = Runs(
            journal,
            invoke,
            self._graph,
            self.orchestrator.plan,
            ExecutionLimits(settings.max_parallel_tasks, settings.run_total_s),
            settings.max_runs,
            RunSlots(self.store, settings.run_total_s),
            on_end=lambda status, seconds, span: self.metrics.ran("plan", status, seconds, otel.ended(span, status)),
            ready=self._settled,
        )
        self.orchestrator.runs = self.runs

    def _graph(self) -> ModelGraph:
        return self.snapshot.graph

    def _settled(self) -> bool:
        return self.ready and all(status.state != "loading" for status in self.snapshot.nodes.values())

    def _spec(self, name: NodeName) -> NodeSpec:
        return self.snapshot.spec_at(name)

    async def start(self) -> None:
        """Open the store and begin to follow the nodes."""
        self.intake.start()
        await self.store.open()
        self.runs.open()
        self.traffic.open()
        if self.exploration is not None:
            self._exploring = asyncio.create_task(self.exploration.follow())
        if self._trained is not None:
            await self._trained.load()
            self._retraining = asyncio.create_task(self._trained.follow())
        self._watcher = asyncio.create_task(self._watch())
        self._trials = asyncio.create_task(self.canary_watch.follow())
        if self.quality is not None:
            self._learning = asyncio.create_task(self.quality.follow())

    async def stop(self) -> None:
        """Let runs in flight finish, then let go of everything."""
        self.ready = False
        await self.intake.stop()
        for task in (self._watcher, self._flags, self._trials, self._exploring, self._learning, self._retraining):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.runs.aclose(self.settings.drain_s)
        await self._placement.aclose()
        await self.security.quotas.aclose()
        await self.router.aclose()
        await self.traffic.aclose()
        await self.store.aclose()
        await asyncio.to_thread(self._telemetry.shutdown)

    async def look(self) -> None:
        """Make the controller see a change of the registry at once."""
        await self._controller.look.remote()

    async def _watch(self) -> None:
        """Follow the controller's snapshots; each is in force once its nodes are placed and the router is fitted."""
        while True:
            try:
                snapshot = await self._controller.watch.remote(self.snapshot.number)
                if snapshot.number != self.snapshot.number or not self.ready:
                    await self._apply(snapshot)
            except Exception:  # a boundary: the controller may be restarting; what is known goes on serving
                log.exception("nodes could not be followed; trying again")
                await asyncio.sleep(1)

    async def _apply(self, snapshot: Snapshot) -> None:
        if snapshot.number == 0:
            return  # the controller has not looked at the registry yet
        snapshot = await self._placement.update(snapshot)
        learned = self.routable(snapshot)
        new = not self.ready or list(map(lesson, learned)) != list(map(lesson, self.routable()))
        if new:
            await self.router.fit(learned)
        for name in set(self.snapshot.nodes) - set(snapshot.nodes):
            self.metrics.forget(name)
            self._forget_calls(name)
        for canary in self.snapshot.canaries.values() if snapshot.canaries != self.snapshot.canaries else ():
            self._forget_calls(canary.place)
            self.metrics.forget(canary.place)
        self.metrics.rolled(self.snapshot, snapshot)
        self.snapshot = snapshot
        if not self.ready:
            spare_the_collector()
            self._flags = asyncio.create_task(self._gate.log_flags(learned))
        self.ready = True
        if new:
            await self._number(learned)

    async def _refit(self) -> None:
        """Fit the router anew to the nodes that it has, by what it is now."""
        if self.ready:
            learned = self.routable()
            await self.router.fit(learned)
            await self._number(learned)

    async def _number(self, learned: list[NodeSpec]) -> None:
        nodes = self.snapshot.nodes
        versions = {spec.name: nodes[spec.name].serving_version or nodes[spec.name].version for spec in learned}
        try:
            await self.router_versions.record(
                learned, versions, strategy=self.router.strategy, encoder=self.router.encoder.name
            )
        except Exception:  # a boundary: the store may be away for a while, and the fit is in force all the same
            log.exception("the router's version could not be recorded")

    def router_hash(self) -> str:
        """Return the hash of what this gateway's router has learned."""
        return lessons_hash(self.routable(), self.router.strategy, self.router.encoder.name)

    async def register(
        self, spec: NodeSpec, *, author: str, force: bool = False, dry_run: bool = False
    ) -> tuple[GateReport | Skipped, NodeVersion | None]:
        """Put a node into the registry if the gate lets it pass; `dry_run` only looks. Raises `NodeRefused`."""
        async with self._registering:  # of two that collide, the second must see the first
            report = await self._check(spec)
            if dry_run:
                return report, None
            if report.verdict == "refuse" and not force:
                raise refusal(report)
            await self.router_versions.keep_report(spec, report)
            return report, await self.registry.put(spec, source="api", author=author)

    async def _check(self, spec: NodeSpec) -> GateReport | Skipped:
        if not self._learns(spec):
            return Skipped(("requests are not routed to it: its kind answers none",))
        current = await self.registry.current()  # also what was accepted a moment ago and is not loaded yet
        known = [version.spec for version in current.values() if version.spec and version.spec.kind in self.kinds]
        return await self._gate.check(spec, [other for other in known if self._learns(other)])

    def routable(self, snapshot: Snapshot | None = None) -> list[NodeSpec]:
        """Return the nodes that a request can be sent to: one that only embeds would take others' probability."""
        found = (spec for spec in (snapshot or self.snapshot).graph if spec.kind in self.kinds)
        return [spec for spec in found if self._learns(spec)]

    def _learns(self, spec: NodeSpec) -> bool:
        return bool(self.kinds[spec.kind].operations & {"chat", "tool"})

    async def flush_spans(self) -> None:
        """Write the spans that have ended, so that a trace asked for now is whole."""
        await asyncio.to_thread(self._telemetry.flush)

    def request_span(self, method: str, path: str, headers: Mapping[str, str]) -> Span:
        """Start the span of a request, as `Telemetry.request_span` does."""
        return self._telemetry.request_span(method, path, headers)
