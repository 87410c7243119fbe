"""Plans of a trained planner on a live graph: its nodes in its order, prompts and arguments taken from the request."""

from __future__ import annotations

from dataclasses import replace

from graph.errors import NoNodeFits
from graph.expressions.parser import Expression
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref
from graph.types import Call
from router.planners.assembly import Assembly, prompt_of
from router.planners.trained import TrainedPlanner

NAME = "trained"


def fits(trained: TrainedPlanner, call: Call, graph: ModelGraph) -> bool:
    """Whether the planner can plan for a call: it reads text only, and every node that it knows must be there."""
    return bool(call.text.strip()) and not call.attachments and all(name in graph for name in trained.tools.names)


def plan_by_example(trained: TrainedPlanner, call: Call, graph: ModelGraph) -> Plan:
    """Return a plan that the graph accepts; raise `NoNodeFits` if what the nodes need is not in the request.

    Each task takes the output of the one before where it can, and else only waits for it, as in the example plans.
    """
    assembly = Assembly(graph)
    earlier: list[Ref] = []
    order: dict[str, str] = {}
    for name, part in trained.parts(call.text):
        before = len(assembly.tasks)
        if graph[name].is_tool:
            made = assembly.tool(name, part, earlier, ())
        else:
            made = assembly.model(name, prompt_of(part, call.text), earlier, {})
        if earlier and made and len(assembly.tasks) > before:
            order[made[0].task] = earlier[0].task
        earlier = made or earlier
    if not assembly.tasks:
        raise NoNodeFits(" ".join(assembly.missing) or "no plan over these nodes fits the request")
    plan = assembly.plan(NAME)
    tasks = tuple(
        replace(task, when=Expression.parse(f"status({order[task.id]}) == 'ok'"))
        if task.id in order and order[task.id] not in task.needs
        else task
        for task in plan.tasks
    )
    return replace(plan, tasks=tasks)
