"""Decides what happens with a call: one node, a routed node, or a plan."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from opentelemetry.trace import Span

from deployments.function_calling import FunctionCaller, nothing_to_call, without_functions
from deployments.placement import capabilities, fields_of_no_node
from deployments.run_errors import recall
from deployments.runs import Runs
from deployments.snapshot import Snapshot
from graph import telemetry as otel
from graph.binding import SAMPLING
from graph.errors import InvalidRequest, NoNodeFits, Overloaded, StreamBroken, UnsupportedParameter
from graph.journal import RunRecord
from graph.model_graph import ModelGraph
from graph.node import Invoke, KindRegistry
from graph.plan import Plan
from graph.types import Call, Delta, Message, NodeName, Operation, Usage
from router.planners.single import SinglePlanner
from router.router import Router
from router.types import Decision, Planner

AUTO = "auto"
PLAN = "plan"
MANY = 256
"""Combinations of fields whose exclusions are remembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun: what was decided, and the deltas to come."""

    deltas: AsyncIterator[Delta]
    decision: Decision | None = None
    run: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage."""


class Orchestrator:
    """The way of a request inside the gateway."""

    def __init__(
        self,
        *,
        kinds: KindRegistry,
        snapshot: Callable[[], Snapshot],
        router: Router,
        planner: Planner,
        invoke: Invoke,
        on_routed: Callable[[Decision, float, str], None],
        on_planned: Callable[[float], None] = lambda seconds: None,
        on_decided: Callable[[Call, Decision], None] = lambda call, decision: None,
        adjust: Callable[[Call, Decision], Awaitable[Decision]] | None = None,
        functions: FunctionCaller | None = None,
    ) -> None:
        self._kinds = kinds
        self._snapshot = snapshot
        self._router = router
        self._planner = planner
        self._invoke = invoke
        self._on_routed = on_routed
        self._on_planned = on_planned
        self._on_decided = on_decided
        self._adjust = adjust
        self._functions = functions
        self._excluded: dict[tuple[str, frozenset[str]], dict[NodeName, str]] = {}
        self._excluded_in = snapshot()
        self.runs: Runs | None = None
        """Set by the gateway, whose runs call back into `plan`."""

    async def answer(self, call: Call, model: str, span: Span) -> Answer:
        """Begin to answer a call. `model` is `auto`, `plan` or a node's name.

        Raises `NodeNotFound`, `NoNodeFits`, `UnsupportedParameter`, `InvalidPlan`, … before anything runs.
        """
        self.require_nodes()
        functions = self._functions if "tools" in call.params else None
        if model == PLAN and functions is not None:
            return await self._with_functions(functions, call, model, span)
        if model == PLAN:
            return await self._planned(call, None, span, {})
        if model != AUTO:
            self.require(model, call)
            return Answer(self._invoke(model, call))
        began = time.perf_counter()
        decision = await self.route(call, span)
        timings = {"route": (time.perf_counter() - began) * 1000}
        if decision.node is None and functions is not None:  # none that takes functions fits: the planner takes them
            return await self._with_functions(functions, call, model, span)
        if decision.node is None:
            raise self._strange_field(call) or nothing_fits(decision)
        if decision.via:
            plan = await SinglePlanner(lambda *_: _ready(decision)).plan(call, self.graph_for(call))
            return replace(await self._planned(call, plan, span, timings), decision=decision)
        if decision.query != call.text:
            call = _rewritten(call, decision.query)
        return Answer(self._invoke(decision.node, call), decision, timings=timings)

    async def _with_functions(self, functions: FunctionCaller, call: Call, model: str, span: Span) -> Answer:
        """Choose among the caller's own functions; where none fits, answer as if there were none."""
        began = time.perf_counter()
        deltas = await functions.answer(call)
        if deltas is not None:
            return Answer(deltas, timings={"plan": (time.perf_counter() - began) * 1000})
        try:
            return await self.answer(without_functions(call), model, span)
        except NoNodeFits:
            return Answer(nothing_to_call())

    async def route(self, call: Call, span: Span | None = None) -> Decision:
        """Decide which node would take a call, without running it."""
        began = time.perf_counter()
        route_span = otel.route_span(self._router.strategy, parent=span if span is not None else call.context.trace)
        with otel.recorded(route_span):
            self.require_nodes()
            decision = await self._router.decide(call, self.graph_for(call), excluded=self.excluded(call))
            if self._adjust is not None:
                decision = await self._adjust(call, decision)
            if route_span.is_recording():
                otel.set_decision(
                    route_span,
                    node=decision.node,
                    probability=decision.probability,
                    out_of_scope=decision.out_of_scope,
                    candidates=[candidate.node for candidate in decision.candidates[:10]],
                )
        self._on_routed(decision, time.perf_counter() - began, otel.kept_id(route_span))
        self._on_decided(call, decision)
        return decision

    async def plan(self, call: Call, avoid: frozenset[NodeName] = frozenset()) -> Plan:
        """Make a plan for a call, without running it; the graph has accepted it. Nodes to `avoid` are not in it."""
        began = time.perf_counter()
        span = otel.plan_span(self._planner.name, parent=call.context.trace)
        with otel.recorded(span):
            self.require_nodes()
            graph = self.graph_for(call).without(*self._snapshot().unavailable, *avoid)
            within = call.with_context(trace=otel.carrier(span) or call.context.trace)
            plan = await self._planner.plan(within, graph)
            graph.check(plan)
            otel.set_plan(span, plan.planner, nodes=[task.node for task in plan.tasks], missing=len(plan.missing))
        self._on_planned(time.perf_counter() - began)
        return plan

    def require_nodes(self) -> None:
        """Raise `Overloaded` while this process does not know the nodes: it has just started."""
        if self._snapshot().number == 0:
            raise Overloaded("the gateway is starting and does not know its nodes yet", retry_after=2)

    def graph_for(self, call: Call) -> ModelGraph:
        """Return the nodes that exist for whoever asks."""
        return self._snapshot().graph.seen_by(call.context.nodes)

    def excluded(self, call: Call) -> dict[NodeName, str]:
        """Return the nodes that cannot take a call now, each with the reason."""
        snapshot = self._snapshot()
        if snapshot is not self._excluded_in or len(self._excluded) > MANY:
            self._excluded, self._excluded_in = {}, snapshot
        key = (call.operation, frozenset(call.params))
        if key not in self._excluded:
            self._excluded[key] = self._excluded_for(snapshot, *key)
        return self._excluded[key]

    def _excluded_for(self, snapshot: Snapshot, operation: Operation, params: frozenset[str]) -> dict[NodeName, str]:
        like = Call(params=dict.fromkeys(params), operation=operation)
        # A kind decides for all its nodes, of which there may be very many.
        of_each = {spec.kind: spec for spec in snapshot.graph}
        lacking = {kind: why for kind, spec in of_each.items() if (why := capabilities(self._kinds, spec, like))}
        if not lacking:
            return snapshot.unavailable
        found = {spec.name: lacking[spec.kind] for spec in snapshot.graph if spec.kind in lacking}
        return found | snapshot.unavailable

    def _strange_field(self, call: Call) -> NoNodeFits | None:
        """Return the error of a call with a field that no node takes; None if every field has one that does."""
        strange = fields_of_no_node(self._kinds, self.graph_for(call), call)
        if not strange:
            return None
        told = [f"{name!r}" + (f" (did you mean {near!r}?)" if near else "") for name, near in strange.items()]
        return NoNodeFits(f"no node takes the field {', '.join(told[:10])}", param=next(iter(strange)))

    def usable(self, node: NodeName, call: Call) -> bool:
        """Whether a node is ready and its kind and modalities fit the call: a condition on fallbacks."""
        graph = self.graph_for(call)
        return node in graph and node not in self.excluded(call) and graph[node].accepts >= call.modalities

    def require(self, node: NodeName, call: Call) -> None:
        """Raise unless a node that the caller named can take the call."""
        spec = self.graph_for(call)[node]
        why = capabilities(self._kinds, spec, call)
        if why is not None:
            field_name = next((name for name in call.params if name in why), "model")
            raise UnsupportedParameter(f"node {node!r} {why}", param=field_name, node=node)
        missing = sorted(call.modalities - spec.accepts)
        if missing and call.operation == "chat" and not spec.is_tool:
            accepts = ", ".join(sorted(spec.accepts))
            message = f"node {node!r} accepts {accepts}; the messages also hold {', '.join(missing)}"
            raise InvalidRequest(message, param="messages", node=node)

    async def _planned(self, call: Call, plan: Plan | None, span: Span, timings: dict[str, float]) -> Answer:
        assert self.runs is not None  # noqa: S101  # set before the gateway serves
        dropped = sorted(set(call.params) - SAMPLING)
        if dropped:
            raise UnsupportedParameter(f"plans do not support {', '.join(dropped)}", param=dropped[0])
        call = replace(call, resets=not call.stream)  # a client that reads along cannot take anything back
        run = await self.runs.start(call, plan, span=span)
        return Answer(self._run_deltas(run, call.resets), run=run, timings=timings)

    async def _run_deltas(self, run: str, resets: bool) -> AsyncIterator[Delta]:
        """Follow a run as if it were one node's answer; leaving it cancels the run."""
        assert self.runs is not None  # noqa: S101  # set before the gateway serves
        finished = False
        sent = False
        try:
            async for _, event in self.runs.events(run):
                if event.type == "output.delta":
                    reset = bool(event.data.get("reset"))
                    if reset and sent and not resets:
                        raise StreamBroken("the run was begun anew after a part of its answer was sent", node=PLAN)
                    sent = True
                    yield Delta(text=event.data["text"], reset=reset, node=PLAN, model=PLAN)
                if event.type == "run.finished":
                    finished = True
                    if event.data["status"] == "failed":
                        raise recall(event.data.get("error") or {})
                    usage = _usage(await self.runs.get(run))
                    yield Delta(finish_reason="stop", usage=usage, node=PLAN, model=PLAN)
        finally:
            if not finished:
                await self.runs.cancel(run)


def _usage(record: RunRecord) -> Usage:
    """Return the tokens of all tasks together."""
    found = [outcome.reply.usage for outcome in record.outcomes if outcome.reply and outcome.reply.usage]
    return sum(found, Usage())


async def _ready(decision: Decision) -> Decision:
    return decision


def nothing_fits(decision: Decision) -> NoNodeFits:
    """Return the error that explains a decision without a node."""
    if decision.candidates and decision.out_of_scope:
        best = decision.candidates[0]
        message = (
            f"no node fits this request (nearest is {best.node!r} with probability {decision.probability:.2f}) "
            "and no node is the default"
        )
    else:
        reasons = "; ".join(f"{item.node}: {item.reason}" for item in decision.excluded[:10])
        message = f"no node can take this request. {reasons or 'No nodes are registered'}"
    return NoNodeFits(message, param="messages")


def _rewritten(call: Call, query: str) -> Call:
    messages = list(call.messages)
    for index in reversed(range(len(messages))):
        if messages[index].role == "user" and isinstance(messages[index].content, str):
            messages[index] = Message("user", query, messages[index].extra)
            return replace(call, messages=tuple(messages))
    return call
