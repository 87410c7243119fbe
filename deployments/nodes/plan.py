"""Kind `plan`: a plan as a node. Its tasks ask other nodes; its arguments are the plan's `request.inputs.NAME`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

from deployments.nodes.arguments import read_arguments
from graph.binding import SAMPLING
from graph.errors import InvalidPlan, InvalidRequest, NodeFailed
from graph.executor import ExecutionLimits, execute
from graph.node import NodeEnvironment, NodeParams
from graph.plan import REQUEST, Plan, Ref
from graph.run import RunEvent, RunResult
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Operation, Usage, json_payload
from graph.values import references

MAX_WITHIN = 8
"""Nodes of this kind inside each other."""


class PlanParams(NodeParams):
    """Settings of kind `plan`."""

    plan: dict[str, Any]
    """What `POST /v1/runs` takes as `plan`."""
    parallel: int = 16
    """Tasks that run at the same time."""


class PlanNode:
    """A plan that runs for each call, within its caller's budget and deadline."""

    Params = PlanParams
    placement: ClassVar[Literal["gateway", "replica"]] = "gateway"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "tool"})
    honours: ClassVar[frozenset[str]] = frozenset(SAMPLING)

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self._spec = spec
        self._environment = environment
        self._params = PlanParams.model_validate(spec.params)
        self._plan: Plan | None = None

    async def load(self) -> None:
        """Read the plan."""
        if self._environment.invoke is None or self._environment.graph is None:
            raise NodeFailed("a node of kind plan runs where it can ask other nodes", node=self._spec.name)
        self._plan = Plan.from_json(self._params.plan)

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        """Run the plan; its answer streams as it is made. A tool gives the output of the plan's `output` task."""
        plan = self._loaded()
        request = self._request(call)
        events: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        work = asyncio.create_task(self._execute(plan, request, events))
        work.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                if event.type == "output.delta" and not self._structured:
                    yield Delta(text=event.data["text"], reset=bool(event.data.get("reset")))
            for delta in self._end(plan, work.result(), call):
                yield delta
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])

    async def check(self) -> None:
        """Raise unless the plan has been read."""
        self._loaded()

    async def aclose(self) -> None:
        """Forget the plan."""
        self._plan = None

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report what is wrong with the plan, a plan that asks itself, and slots that are no arguments."""
        try:
            plan = Plan.from_json(PlanParams.model_validate(spec.params).plan)
        except InvalidPlan as error:
            return [(f"params.plan.{problem.key}".rstrip("."), problem.message) for problem in error.problems]
        found = [
            (
                f"params.plan.tasks.{task.id}.node",
                f"is the node {spec.name!r} itself; a plan must not run within itself",
            )
            for task in plan.tasks
            if task.node == spec.name
        ]
        declared = ", ".join(sorted(spec.arguments)) or "none"
        for task in plan.tasks:
            for ref in references((task.arguments, task.map.over if task.map else None)):
                if isinstance(ref, Ref) and ref.task == REQUEST and ref.path[:1] == ("inputs",):
                    name = ".".join(ref.path[1:2])
                    if name not in spec.arguments:
                        message = f"{ref} names no argument of the node; arguments: {declared}"
                        found.append((f"params.plan.tasks.{task.id}", message))
        return found

    @property
    def _structured(self) -> bool:
        """Whether the answer is a value rather than text."""
        return self._spec.is_tool or Modality.TEXT not in self._spec.produces

    def _loaded(self) -> Plan:
        if self._plan is None:
            raise NodeFailed(f"node {self._spec.name!r} is not loaded", node=self._spec.name)
        return self._plan

    def _request(self, call: Call) -> Call:
        """Return what the plan's tasks see as the request; refuse a plan within itself."""
        name, within = self._spec.name, call.context.within
        if name in within or len(within) >= MAX_WITHIN:
            way = " -> ".join((*within, name))
            what = "runs within itself" if name in within else f"is one of more than {MAX_WITHIN} inside each other"
            message = f"node {name!r} of kind plan {what}: {way}; take it out of the plan of {within[-1]!r}"
            raise InvalidRequest(message, param="plan", node=name)
        if self._spec.is_tool:
            values = read_arguments(call, self._spec.arguments, name)
            call = replace(call, inputs={key: json_payload(value) for key, value in values.items()})
        elif not call.text.strip() and not call.attachments:
            raise InvalidRequest("messages hold neither a text nor an attachment", param="messages", node=name)
        return replace(call, operation="chat").with_context(within=(*within, name))

    async def _execute(self, plan: Plan, request: Call, events: asyncio.Queue[RunEvent | None]) -> RunResult:
        invoke, graph = self._environment.invoke, self._environment.graph
        assert invoke is not None and graph is not None  # noqa: S101  # `load` has looked
        now = graph().seen_by(request.context.nodes)
        now.check(plan)
        limits = ExecutionLimits(self._params.parallel, self._spec.limits.total_s)

        async def note(event: RunEvent) -> None:
            events.put_nowait(event)

        return await execute(plan, invoke, graph=now, request=request, on_event=note, limits=limits)

    def _end(self, plan: Plan, result: RunResult, call: Call) -> list[Delta]:
        """Return the last steps of the answer; raise if there is none."""
        outcome = next(outcome for outcome in result.outcomes if outcome.task == plan.output)
        if result.status == "failed" or (self._structured and outcome.reply is None):
            bad = next((o for o in result.outcomes if o.error and not o.unneeded), outcome)
            reason = (bad.error or {}).get("message", bad.status)
            raise NodeFailed(f"the plan of node {self._spec.name!r} failed: {bad.task}: {reason}", node=self._spec.name)
        found = [o.reply.usage for o in result.outcomes if o.reply and o.reply.usage and not o.cached]
        usage = replace(sum(found, Usage()), cost=sum(o.cost for o in result.outcomes)) if found else None
        attempts = sum(o.attempts for o in result.outcomes)
        last = Delta(usage=usage, finish_reason="stop", model=self._spec.name, attempt=attempts)
        if not self._structured or outcome.reply is None:
            return [last]
        payload = outcome.reply.payload
        return [Delta(text=payload.text if call.operation == "chat" else "", payload=payload), last]
