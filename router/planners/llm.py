"""Plans by asking a language model of the graph, with the schema of a plan, one repair, and a fallback."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from graph.collect import collect
from graph.errors import InvalidPlan, ModelyardError, Problem
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import REQUEST, Plan, Ref
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, NodeName
from router.planners.media import absent_attachments, attached
from router.planners.prompt import planning_messages, repair_messages
from router.planners.schema import MAX_PLANNED_TASKS, response_format
from router.types import Planner

Shortlist: TypeAlias = Callable[[Call, ModelGraph], Awaitable[Sequence[NodeName]]]
"""Names the nodes that a request may need, so that the prompt of a large graph stays short."""

MAX_PLAN_TOKENS = 1500


class LLMPlanner:
    """Asks the named chat node for a plan; `Plan.planner` is `llm`, `llm:repaired` or the fallback's name."""

    name = "llm"

    def __init__(self, invoke: Invoke, node: NodeName, fallback: Planner, nodes: Shortlist | None = None) -> None:
        self._invoke = invoke
        self._node = node
        self._fallback = fallback
        self._nodes = nodes

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan that the graph accepts, from the model or else from the fallback."""
        if not call.text.strip() and not call.attachments:
            return await self._fallback.plan(call, graph)
        specs = await self._plannable(call, graph)
        asked = planning_messages(call, specs)
        try:
            answer = await self._ask(asked, specs, call)
            try:
                return _checked(answer, call, graph, specs, self.name)
            except InvalidPlan as error:
                again = await self._ask(repair_messages(asked, answer, error.problems), specs, call)
                return _checked(again, call, graph, specs, f"{self.name}:repaired")
        except ModelyardError:  # the model failed or did not learn from its mistakes: plan without it
            return await self._fallback.plan(call, graph)

    async def _plannable(self, call: Call, graph: ModelGraph) -> list[NodeSpec]:
        """Return the nodes that a task may name: shortlisted, with arguments, not waiting for an absent attachment."""
        names = set(await self._nodes(call, graph)) if self._nodes else set(graph.names)
        media = attached(call)
        names |= {spec.name for spec in graph if any(kind.value in spec.signature() for kind in media)}
        made = {kind for spec in graph for kind in spec.produces}
        return [spec for spec in graph if spec.name in names and _possible(spec, {*media, *made})]

    async def _ask(self, messages: tuple[Message, ...], specs: Sequence[NodeSpec], call: Call) -> str:
        params: dict[str, Any] = {
            "temperature": 0,
            "max_tokens": MAX_PLAN_TOKENS,
            "response_format": response_format(specs),
        }
        # The operator chose the planning node: whoever asks need not be allowed to call it.
        caller = call.context.caller and replace(call.context.caller, nodes=None)
        question = Call(messages, params=params, context=replace(call.context, caller=caller))
        return (await collect(self._invoke(self._node, question), node=self._node)).text


def _possible(spec: NodeSpec, available: set[Modality]) -> bool:
    signature = spec.signature()
    needed = {Modality(name) for name, a in signature.items() if name in ("audio", "image") and a.required}
    return bool(signature) and (spec.is_tool or needed <= available)


def _checked(answer: str, call: Call, graph: ModelGraph, specs: Sequence[NodeSpec], planner: str) -> Plan:
    """Read a model's answer; raise `InvalidPlan` with everything wrong with it."""
    data = _first_object(answer)
    plan = Plan.from_json({"tasks": data.get("tasks")} if isinstance(data, dict) else data, planner)
    graph.check(plan)
    problems = [
        Problem("plan", "tasks", f"{ref} does not exist; the request has {_parts(call)}")
        for ref in absent_attachments(plan, call)
    ]
    if len(plan.tasks) > MAX_PLANNED_TASKS:
        problems.append(Problem("plan", "tasks", f"{len(plan.tasks)} tasks; at most {MAX_PLANNED_TASKS}"))
    problems += _literal_media(plan, graph)
    if problems:
        raise InvalidPlan(problems)
    return replace(plan, output=plan.sinks[-1])


def _literal_media(plan: Plan, graph: ModelGraph) -> list[Problem]:
    """Find attachments and prompts that a model made up in a form that no node can take."""
    found = []
    for task in plan.tasks:
        for name, value in task.arguments.items() if not graph[task.node].is_tool else ():
            key = f"tasks.{task.id}.arguments.{name}"
            if name in ("audio", "image") and not isinstance(value, Ref):
                found.append(Problem("plan", key, 'must be a reference, such as {"$ref": "request.' + name + '.0"}'))
            elif name == "prompt" and not (isinstance(value, Ref) or (isinstance(value, str) and value.strip())):
                found.append(Problem("plan", key, "must be a text that is not empty, or a reference"))
    return found


def _parts(call: Call) -> str:
    return ", ".join([f"{REQUEST}.text", *(str(ref) for refs in attached(call).values() for ref in refs)])


def _first_object(answer: str) -> Any:
    """Read the JSON object in an answer, whatever stands around it."""
    begin = answer.find("{")
    try:
        return json.JSONDecoder().raw_decode(answer[begin:])[0] if begin >= 0 else None
    except (ValueError, RecursionError) as error:
        raise InvalidPlan([Problem("plan", "", f"is not JSON: {error}")]) from None
