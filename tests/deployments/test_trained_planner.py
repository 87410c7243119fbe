"""The service plans with an artefact, takes a newer one while it serves, and else plans as it would without one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from deployments import trained_planner
from deployments.settings import Settings
from deployments.trained_planner import FollowedPlanner, make_planner
from graph.errors import InvalidRequest
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, text_payload
from router.planner_artifact import PlannerArtifact, check_tools, read_card
from router.planners.decoder import Candidate, Decoder
from router.planners.llm import LLMPlanner
from router.planners.rerank import Memory
from router.planners.tools_alone import ToolsPlanner
from router.planners.toolset import Tool, Toolset
from router.planners.trained import Ranker, TrainedPlanner
from router.router import Router

WIDTH = 4


class Tokens:
    """Encodes every text as one token."""

    def tokens(self, text: str):
        return np.ones((1, WIDTH), np.float32)


class Fixed(Decoder):
    """Proposes one sequence, whatever is asked."""

    def search(self, tokens, width=8):
        return [Candidate((0, 1, 2), -0.1)]

    def classify(self, tokens):
        return np.zeros(3, np.float32)


def trained(*names: str) -> TrainedPlanner:
    tools = Toolset.of(Tool(name, f"The {name} node") for name in names)
    memory = Memory.of(np.ones((1, WIDTH), np.float32) / 2, [(0, 1, 2)])
    weights = np.ones(11, np.float32)
    return TrainedPlanner(tools, Tokens(), Fixed({}, None, (1, 3)), memory, Ranker(weights, weights, weights))


class Other:
    name = "other"

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        return Plan((Task("t1", "a", {"prompt": call.text}),), "t1", "other")


TOOL = {"city": {"type": "string", "description": "City"}}
GRAPH = ModelGraph(
    [
        NodeSpec(name="a", kind="k", description="a"),
        NodeSpec.model_validate({"name": "b", "kind": "k", "description": "b", "arguments": TOOL}),
        NodeSpec(name="c", kind="k", description="c"),
    ]
)
CALL = Call((Message("user", "Tell a, then ask b about a city in Oslo, then tell c"),))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "card.json").write_text("abc")

    def load(path: Path) -> PlannerArtifact:
        names = (path / "card.json").read_text()
        if names == "broken":
            raise InvalidRequest("broken")
        return PlannerArtifact(trained(*names), {})

    monkeypatch.setattr(trained_planner, "load_planner", load)
    return tmp_path


def rewrite(folder: Path, text: str) -> None:
    (folder / "new").write_text(text)
    os.replace(folder / "new", folder / "card.json")


async def test_a_plan_has_the_nodes_of_the_artefact_in_its_order(folder: Path) -> None:
    plan = await FollowedPlanner(folder, Other()).plan(CALL, GRAPH)
    assert [task.node for task in plan.tasks] == ["a", "b", "c"] and plan.planner == "trained"
    one, two, three = plan.tasks
    assert two.arguments == {"city": "Oslo"} and str(two.when) == f"status({one.id}) == 'ok'"
    assert three.arguments["context"] == [Ref(two.id)] and three.when is None
    assert plan.links == (("t1", "t2"), ("t2", "t3"))
    GRAPH.check(plan)


async def test_what_the_artefact_cannot_plan_another_planner_does(folder: Path) -> None:
    planner = FollowedPlanner(folder, Other())
    recording = Call((Message("user", (text_payload("Hear"), Payload(Modality.AUDIO, b"", "audio/wav"))),))
    assert (await planner.plan(recording, GRAPH)).planner == "other"
    fewer = ModelGraph([spec for spec in GRAPH if spec.name != "c"])
    assert (await planner.plan(CALL, fewer)).planner == "other"


async def test_a_newer_artefact_is_taken_and_a_broken_one_is_not(folder: Path, caplog) -> None:
    planner = FollowedPlanner(folder, Other())
    assert (await planner.plan(CALL, GRAPH)).planner == "trained"
    rewrite(folder, "xyz")
    assert (await planner.plan(CALL, GRAPH)).planner == "other"
    rewrite(folder, "cba")
    assert [task.node for task in (await planner.plan(CALL, GRAPH)).tasks] == ["c", "b", "a"]
    rewrite(folder, "broken")
    assert [task.node for task in (await planner.plan(CALL, GRAPH)).tasks] == ["c", "b", "a"]
    assert "could not be loaded; what was in use stays" in caplog.text


def test_the_settings_choose_the_planner(tmp_path: Path) -> None:
    router = Router(None)  # type: ignore[arg-type]  # nothing is encoded

    def planner(**settings: object):
        return make_planner(Settings.from_env({}, **settings), router, lambda node, call: None)

    assert isinstance(planner(), ToolsPlanner)
    assert isinstance(planner(planner_artifact=str(tmp_path)), FollowedPlanner)
    assert isinstance(planner(planner_artifact=str(tmp_path), planner_node="a"), LLMPlanner)


def test_a_folder_without_a_card_or_with_other_tools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"is no trained planner: has no card\.json"):
        read_card(tmp_path)
    with pytest.raises(InvalidRequest, match="plans over 1 tools that are not given: b"):
        check_tools(trained("a", "b").tools, Toolset.of([Tool("a")]), tmp_path)
