"""The graph of nodes: edges, ways along them, and whether a plan fits."""

from __future__ import annotations

from typing import Any

import pytest

from graph.errors import InvalidPlan, NodeNotFound
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.spec import NodeSpec
from graph.types import Modality


def node(name: str, accepts: str = "text", produces: str = "text", **more: Any) -> NodeSpec:
    data = {"name": name, "kind": "k", "description": name, "accepts": accepts.split(), "produces": produces.split()}
    return NodeSpec.model_validate(data | more)


SPEECH = node("speech", "audio")
LEGAL = node("legal", edges={"fallback": ["general"], "escalates": ["expert"]})
GENERAL = node("general", default=True)
DRAW = node("draw", "text", "image")
WEATHER = node(
    "weather",
    arguments={
        "city": {},
        "days": {"type": "integer", "required": False, "enum": [1, 3]},
        "unit": {"default": "C"},
        "exact": {"type": "boolean", "required": False},
        "offset": {"type": "number", "required": False},
    },
)


@pytest.fixture
def graph() -> ModelGraph:
    return ModelGraph([SPEECH, LEGAL, GENERAL, DRAW, WEATHER])


def test_it_is_a_collection(graph: ModelGraph) -> None:
    assert "legal" in graph and "nobody" not in graph
    assert len(graph) == 5
    assert graph.names == ("speech", "legal", "general", "draw", "weather")
    assert graph["legal"] is LEGAL
    assert graph.default == "general"
    with pytest.raises(NodeNotFound, match="no node is called 'nobody'; there is draw, general") as caught:
        graph["nobody"]
    assert caught.value.node == "nobody"
    assert ModelGraph().default is None


def test_changes_make_copies(graph: ModelGraph) -> None:
    changed = graph.with_nodes(node("new"), node("legal")).without("draw", "nobody")
    assert changed.names == ("speech", "legal", "general", "weather", "new")
    assert changed["legal"].edges.fallback == ()
    assert graph["legal"] is LEGAL and len(graph) == 5


def test_modalities_are_a_hard_filter(graph: ModelGraph) -> None:
    assert [spec.name for spec in graph.accepting(Modality.AUDIO)] == ["speech"]
    assert graph.accepting(Modality.AUDIO, Modality.TEXT) == ()
    assert len(graph.accepting()) == 5


def test_edges_are_declared_or_follow_from_modalities(graph: ModelGraph) -> None:
    def edges(kind: str) -> list[tuple[str, str]]:
        return [(source, target) for source, target, key in graph.network.edges(keys=True) if key == kind]

    assert edges("fallback") == [("legal", "general")]
    assert edges("escalates") == []  # its target does not exist
    feeds = edges("feeds")
    assert ("speech", "legal") in feeds and ("legal", "draw") in feeds
    assert ("legal", "speech") not in feeds and ("draw", "legal") not in feeds and ("legal", "legal") not in feeds


def test_a_way_prefers_declared_edges() -> None:
    one, two = node("one", "text", "text json"), node("two", "json", "text")
    graph = ModelGraph([SPEECH.model_copy(update={"edges": LEGAL.edges}), one, two, GENERAL])
    assert graph.path("speech", "two") == ("speech", "one", "two")
    assert graph.path("two", "speech") is None
    assert graph.path("speech", "nobody") is None
    assert graph.path("speech", "speech") == ("speech",)
    declared = node("speech", "audio", edges={"feeds": ["general"]})
    network = ModelGraph([declared, GENERAL]).network
    assert network["speech"]["general"]["feeds"] == {"declared": True}
    assert network["general"].get("speech") is None


def test_problems_between_nodes(graph: ModelGraph) -> None:
    (problem,) = graph.problems()
    assert (problem.where, problem.key) == ("legal", "edges.escalates")
    assert "no node is called 'expert'; there is draw" in problem.message
    found = graph.with_nodes(node("expert", default=True)).problems()
    assert [str(p) for p in found] == ["expert: default: more than one node is the default: general, expert"]


def check(graph: ModelGraph, *tasks: Task) -> list[tuple[str, str]]:
    try:
        graph.check(Plan(tasks, tasks[-1].id))
    except InvalidPlan as error:
        return [(problem.key, problem.message) for problem in error.problems]
    return []


def test_plans_that_fit(graph: ModelGraph) -> None:
    listen = Task("a", "speech", {"audio": Ref("request", ("audio",))})
    assert check(graph, listen, Task("b", "legal", {"prompt": Ref("a"), "context": [Ref("a"), "text"]})) == []
    assert check(graph, Task("a", "weather", {"city": "Oslo", "days": 3, "exact": True, "offset": 1})) == []
    assert check(graph, listen, Task("b", "weather", {"city": Ref("a")})) == []


@pytest.mark.parametrize(
    ("name", "arguments", "key", "message"),
    [
        ("nobody", {}, "node", "no node is called 'nobody'"),
        ("legal", {}, "arguments.prompt", "is required by node 'legal'"),
        ("legal", {"prompt": "x", "audio": "y"}, "arguments.audio", "takes no such argument; it takes prompt, context"),
        ("speech", {"prompt": "x", "audio": "y"}, "arguments.prompt", "takes no such argument; it takes audio"),
        ("weather", {}, "arguments.city", "is required"),
        ("weather", {"city": 5}, "arguments.city", "must be of type string; got 5"),
        ("weather", {"city": "x", "days": 2}, "arguments.days", "must be one of [1, 3]; got 2"),
        ("weather", {"city": "x", "days": True}, "arguments.days", "must be of type integer; got True"),
        ("weather", {"city": "x", "offset": True}, "arguments.offset", "must be of type number; got True"),
        ("weather", {"city": "x", "exact": 1}, "arguments.exact", "must be of type boolean; got 1"),
    ],
)
def test_plans_that_do_not(graph: ModelGraph, name: str, arguments: dict[str, Any], key: str, message: str) -> None:
    ((found_key, found),) = check(graph, Task("a", name, arguments))
    assert found_key == f"tasks.a.{key}"
    assert message in found


def test_an_attachment_must_come_from_what_produces_it(graph: ModelGraph) -> None:
    wrong = check(graph, Task("a", "legal", {"prompt": "x"}), Task("b", "speech", {"audio": Ref("a")}))
    assert wrong == [
        ("tasks.b.arguments.audio", "needs audio, but task 'a' (node 'legal') produces text"),
    ]


def test_all_problems_of_a_plan_at_once(graph: ModelGraph) -> None:
    assert len(check(graph, Task("a", "nobody"), Task("b", "legal"), Task("c", "weather", {"city": 1, "z": 1}))) == 4
