"""A plan of one routed task, and of the tasks that its attachments pass first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref
from graph.types import Call, Modality, NodeName
from router.planners.assembly import Assembly, prompt_of
from router.planners.media import attached, converts
from router.types import Decision

Decide: TypeAlias = Callable[[Call, ModelGraph], Awaitable[Decision]]


class SinglePlanner:
    """Does not split: the router's decision as a plan."""

    name = "single"

    def __init__(self, decide: Decide) -> None:
        self._decide = decide

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan of one task after the nodes of `Decision.via`; raise `NoNodeFits` if the router found none."""
        decision = await self._decide(call, graph)
        if decision.node is None:
            raise NoNodeFits("no node fits this request, and no node is the default")
        node = graph[decision.node]
        assembly = Assembly(graph)
        direct: dict[Modality, list[Ref]] = {}
        context: list[Ref] = []
        for kind, refs in attached(call).items():
            if kind.value in node.signature() and not node.is_tool:
                direct[kind] = list(refs)
            elif _passes(graph, decision.via, kind):
                context += [assembly.carry(ref, kind, decision.via) for ref in refs]
            else:
                direct.setdefault(kind, list(refs)) if node.is_tool else assembly.ask(f"{node.name} takes no {kind}.")
        if node.is_tool:
            made = assembly.tool(node.name, call.text, context, [ref for refs in direct.values() for ref in refs])
        else:
            made = assembly.model(node.name, prompt_of(decision.query or call.text, call.text), context, direct)
        if not made:
            raise NoNodeFits(" ".join(assembly.missing))
        return assembly.plan(self.name)


def _passes(graph: ModelGraph, via: tuple[NodeName, ...], kind: Modality) -> bool:
    """Whether an attachment can go through these nodes, and what comes out of each into the next."""
    if not via or not converts(graph[via[0]], kind):
        return False
    return all("prompt" in graph[name].signature() for name in via[1:])
