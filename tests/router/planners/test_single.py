from __future__ import annotations

import pytest
from conftest_planners import call_of

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Ref
from graph.types import Call
from router.planners.single import SinglePlanner
from router.types import Decision


def planner(node: str | None, via: tuple[str, ...] = (), query: str = "Explain") -> SinglePlanner:
    async def decide(call: Call, graph: ModelGraph) -> Decision:
        return Decision(node, 0.9, node is None, (), (), query, "test", via)

    return SinglePlanner(decide)


async def test_one_task(graph: ModelGraph) -> None:
    plan = await planner("legal").plan(call_of("Explain"), graph)
    graph.check(plan)
    assert [(task.node, task.arguments) for task in plan.tasks] == [("legal", {"prompt": "Explain"})]
    assert plan.planner == "single"


async def test_attachments_pass_the_nodes_of_via(graph: ModelGraph) -> None:
    plan = await planner("legal", ("speech",)).plan(call_of("Explain", audio=1), graph)
    graph.check(plan)
    assert plan.tasks[0].arguments == {"audio": Ref("request", ("audio", "0"))}
    assert plan.tasks[1].arguments == {"prompt": "Explain", "context": [Ref("t1")]}
    assert plan.output == "t2"


async def test_a_node_takes_its_own_modality(graph: ModelGraph) -> None:
    plan = await planner("vision").plan(call_of("Explain", image=1), graph)
    assert plan.tasks[0].arguments == {"prompt": "Explain", "image": Ref("request", ("image", "0"))}


async def test_an_attachment_with_no_way_is_reported(graph: ModelGraph) -> None:
    plan = await planner("legal").plan(call_of("Explain", audio=1), graph)
    assert plan.missing == ("legal takes no audio.",)


async def test_a_tool(graph: ModelGraph) -> None:
    plan = await planner("weather").plan(call_of("Weather in Rome"), graph)
    assert plan.tasks[0].arguments == {"city": "Rome"}
    with pytest.raises(NoNodeFits, match="city"):
        await planner("weather").plan(call_of("Weather please"), graph)


async def test_no_decision(graph: ModelGraph) -> None:
    with pytest.raises(NoNodeFits):
        await planner(None).plan(call_of("Explain"), graph)
