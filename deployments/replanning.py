"""Plans of runs: given ones made ready, and the rest of a run planned anew."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from heapq import nsmallest
from typing import TypeAlias

from graph.errors import InvalidRequest, ModelyardError, NodeNotFound
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.replan import knowing, merged
from graph.run import RunResult
from graph.run_options import RunOptions
from graph.types import Call, NodeName

log = logging.getLogger("modelyard.runs")

MakePlan: TypeAlias = Callable[[Call, frozenset[NodeName]], Awaitable[Plan]]
"""Plans a call, without the nodes that failed before."""


def prepared(plan: Plan | None, options: RunOptions, call: Call, graph: ModelGraph) -> tuple[Plan | None, float]:
    """Return a given plan as it will run, and how many seconds the run may take; raise for what cannot be."""
    if options.writer is not None and options.writer not in graph:
        known = ", ".join(nsmallest(20, graph.names)) or "none"
        message = f"compose.node: no node is called {options.writer!r}; there is {known}"
        raise NodeNotFound(message, param="compose.node", node=options.writer)
    if plan is not None:
        plan = options.apply(plan)
        graph.check(plan)
        if plan.replan and not call.messages:
            message = "replan needs to know what was asked: give 'input' or 'messages' beside the plan"
            raise InvalidRequest(message, param="replan")
    budget = plan.budget if plan is not None else options.budget
    return plan, (budget.deadline_s if budget else None) or float("inf")


async def plan_rest(
    make_plan: MakePlan, graph: ModelGraph, call: Call, plan: Plan, result: RunResult, avoid: frozenset[NodeName]
) -> Plan | None:
    """Return the plan to go on with after failures, or None if no other can be made."""
    try:
        made = await make_plan(knowing(call, plan, result.outcomes), avoid)
        rest = merged(plan, result.outcomes, made)
        graph.check(rest)
    except ModelyardError as error:  # what there is, is the result
        log.info("the rest of a run could not be planned anew: %s", error.message)
        return None
    return rest
