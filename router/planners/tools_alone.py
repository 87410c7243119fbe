"""Plans on a live graph for requests that tools alone answer: a call for each thing asked, filled from its words."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from graph.errors import InvalidPlan, NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.spec import NodeSpec
from graph.types import Call, NodeName
from router.decide import over_budget
from router.planners.clauses import Splitter
from router.planners.dependencies import points_outward
from router.planners.learned import SCORED_CHARACTERS, AsyncScore, PolicyOf, as_preferred
from router.planners.toolset import Draft, Tool, Toolset
from router.planners.zero_shot import ZeroShotPlanner
from router.types import Encoder, Planner, Scores

MAX_TOOLS = 500
"""Tools up to which each is held against every part of a request."""
MAX_CHARACTERS = 4000
"""Of a request: longer ones bring a passage to work on, not values for arguments."""
IN_SCOPE = 0.5
FITS = 0.5
"""Score of a tool's words from which a clause that the router gives to nobody is the tool's."""
SURE = 0.5
"""Share of a clause's probability that must be on tools."""
KEPT = 16
"""Sets of tools whose encoded descriptions are kept: callers may see different ones."""


class ToolsPlanner:
    """Plans where every clause of a request asks for a tool and says all that it needs; else another planner does.

    Whether a clause asks for a tool at all is the router's to say, and for which one the descriptions'. Each item of a
    list ("in Oslo, Rome and Lima") becomes a call of its own.
    """

    name = "zero_shot"

    def __init__(
        self, score: AsyncScore, encoder: Encoder | None, other: Planner, *, policy_of: PolicyOf = as_preferred
    ) -> None:
        self._score = score
        self._encoder = encoder
        self._other = other
        self._policy_of = policy_of
        self._splitter = Splitter()
        self._planners: OrderedDict[tuple[int, ...], tuple[Sequence[NodeSpec], ZeroShotPlanner]] = OrderedDict()
        """By the identities of specs; with the specs, so that their identities are nobody else's."""

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan that the graph accepts; raise `NoNodeFits` when neither planner has one."""
        return await self._planned(call, graph) or await self._other.plan(call, graph)

    async def _planned(self, call: Call, graph: ModelGraph) -> Plan | None:
        text, policy = call.text, self._policy_of(call)
        if call.attachments or not text.strip() or len(text) > MAX_CHARACTERS:
            return None
        if any(message.role == "assistant" for message in call.messages) and points_outward(text):
            return None
        tools = [spec for spec in graph if spec.is_tool and not over_budget(spec, policy)][: MAX_TOOLS + 1]
        if not tools or len(tools) > MAX_TOOLS:
            return None
        clauses = [clause.text[:SCORED_CHARACTERS] for clause in self._splitter.split(text).clauses]
        if not clauses:
            return None
        scores = await self._score(clauses)
        draft, best = await asyncio.to_thread(self._drafted, tools, text, clauses)
        if not _tools_alone(best, scores, graph) or len({name for name, _ in best}) > len(_nodes(draft)):
            return None
        if draft.must_ask:
            raise NoNodeFits(" ".join(draft.missing))
        return _accepted(draft, graph)

    def _drafted(
        self, specs: Sequence[NodeSpec], text: str, clauses: Sequence[str]
    ) -> tuple[Draft, list[tuple[NodeName, float]]]:
        """Return a draft over these tools, and the tool that fits each clause best, with how well."""
        planner = self._planner(specs)
        try:
            return planner.draft(text), planner.best(clauses)
        except NoNodeFits:
            return Draft(), planner.best(clauses)

    def _planner(self, specs: Sequence[NodeSpec]) -> ZeroShotPlanner:
        key = tuple(map(id, specs))
        kept = self._planners.pop(key, None)
        planner = kept[1] if kept else ZeroShotPlanner(Toolset.of(map(Tool.of, specs)), self._encoder)
        self._planners[key] = specs, planner
        while len(self._planners) > KEPT:
            self._planners.popitem(last=False)
        return planner


def _tools_alone(best: Sequence[tuple[NodeName, float]], scores: Scores, graph: ModelGraph) -> bool:
    """Whether the router gives every clause to tools, or to nobody although the words of a tool fit it."""
    known = [index for index, name in enumerate(scores.labels) if name in graph]
    tools = [index for index in known if graph[scores.labels[index]].is_tool]
    for (_, fit), row, in_scope in zip(best, scores.probabilities, scores.in_scope, strict=True):
        if in_scope < IN_SCOPE:
            if graph.default is not None or fit < FITS:
                return False
        elif row[tools].sum() < SURE * row[known].sum():
            return False
    return True


def _nodes(draft: Draft) -> set[NodeName]:
    return {task.node for task in draft.tasks}


def _accepted(draft: Draft, graph: ModelGraph) -> Plan | None:
    """Return the plan of a draft that lacks nothing; None where something must be asked, or a value is not admitted."""
    if draft.missing or not draft.tasks:
        return None
    plan = Plan(draft.tasks, draft.tasks[-1].id, ToolsPlanner.name)
    try:
        graph.check(plan)
    except InvalidPlan:
        return None
    return plan
