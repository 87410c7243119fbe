"""Exactness of whole plans over the example graph, with the real encoder and scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml
from conftest_planners import call_of, example_specs

from graph.model_graph import ModelGraph
from graph.plan import Plan
from router.planners.learned import AsyncScore, LearnedPlanner
from router.scorers.embedding import EmbeddingScorer
from router.types import Encoder

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden.yaml").read_text())


@pytest.fixture(scope="module")
def score(minilm: Encoder) -> AsyncScore:
    scorer = EmbeddingScorer.fit([spec for spec in example_specs() if spec.examples], minilm)

    async def score_(texts: Any) -> Any:
        return scorer.score(texts)

    return score_


def drawn(nodes: list[str], links: list[Any]) -> nx.DiGraph:
    network = nx.DiGraph()
    for index, name in enumerate(nodes):
        network.add_node(index, name=name)
    network.add_edges_from(tuple(link) for link in links)
    return network


def exact(plan: Plan, row: dict[str, Any]) -> bool:
    ids = [task.id for task in plan.tasks]
    got = drawn([task.node for task in plan.tasks], [(ids.index(a), ids.index(b)) for a, b in plan.links])
    return nx.is_isomorphic(got, drawn(row["nodes"], row["links"]), node_match=lambda a, b: a == b)


@pytest.mark.parametrize(("part", "floor"), [("tuned", 0.85), ("held_out", 0.6)])
async def test_exact_plans(score: AsyncScore, part: str, floor: float) -> None:
    graph = ModelGraph(example_specs())
    planner = LearnedPlanner(score)
    wrong = []
    for row in GOLDEN[part]:
        plan = await planner.plan(call_of(row["text"], row.get("audio", 0)), graph)
        graph.check(plan)
        if not exact(plan, row):
            wrong.append((row["text"], [task.node for task in plan.tasks], plan.links))
    assert 1 - len(wrong) / len(GOLDEN[part]) >= floor, wrong
