"""Plans: validated when built, and in the form of the native surface."""

from __future__ import annotations

import json
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import InvalidPlan
from graph.plan import MAX_TASKS, Plan, Ref, Task, from_refs, references, to_refs


def plan(*tasks: Task, output: str | None = None) -> Plan:
    return Plan(tasks, output if output is not None else tasks[-1].id)


def diamond() -> Plan:
    return plan(
        Task("a", "n", {"prompt": "x"}),
        Task("b", "n", {"prompt": Ref("a")}),
        Task("c", "n", {"context": [Ref("a", ("text",)), {"deep": Ref("request", ("text",))}]}),
        Task("d", "n", {"prompt": Ref("b"), "context": [Ref("c")]}),
    )


def test_the_shape_of_a_plan() -> None:
    made = diamond()
    assert made.links == (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    assert made.sinks == ("d",)
    assert made.task("c").needs == {"a"}


def test_a_plan_survives_json() -> None:
    made = Plan(diamond().tasks, "d", "rules", ("Which law?",))
    data = json.loads(json.dumps(made.to_json()))
    assert data["tasks"][1]["arguments"] == {"prompt": {"$ref": "a"}}
    assert data["links"] == [["a", "b"], ["a", "c"], ["b", "d"], ["c", "d"]]
    assert Plan.from_json(data) == made


def test_the_last_task_answers_unless_another_is_named() -> None:
    data = {"tasks": [{"id": "a", "node": "n"}, {"id": "b", "node": "n", "arguments": None}]}
    assert Plan.from_json(data).output == "b"
    assert Plan.from_json(data | {"output": "a"}, planner="llm").planner == "llm"


@pytest.mark.parametrize(
    ("tasks", "output", "expected"),
    [
        ((), "a", "at least one task"),
        ((Task("a", "n"), Task("a", "n")), "a", "id 'a' is used more than once"),
        ((Task("request", "n"),), "request", "not 'request'"),
        ((Task("a b", "n"),), "a b", "1 to 64 letters"),
        ((Task("a\n", "n"),), "a\n", "1 to 64 letters"),
        ((Task("", "n"),), "", "1 to 64 letters"),
        ((Task("a", "n"),), "z", "task 'z' is not in the plan; it has a"),
        ((Task("a", "n", {"x": Ref("z")}),), "a", "tasks.a.arguments: refers to task 'z', which the plan lacks"),
        ((Task("a", "n", {"x": Ref("a")}),), "a", "references form a cycle: a -> a"),
        ((Task("a", "n", {"x": Ref("b")}), Task("b", "n", {"x": [Ref("a")]})), "a", "references form a cycle"),
    ],
)
def test_a_plan_that_cannot_be_is_not_built(tasks: tuple[Task, ...], output: str, expected: str) -> None:
    with pytest.raises(InvalidPlan) as caught:
        Plan(tasks, output)
    assert expected in str(caught.value)
    assert caught.value.param == "plan"


def test_a_plan_has_a_largest_size() -> None:
    with pytest.raises(InvalidPlan, match="at most 1000"):
        plan(*(Task(f"t{i}", "n") for i in range(MAX_TASKS + 1)))
    chain = [Task("t0", "n"), *(Task(f"t{i}", "n", {"x": Ref(f"t{i - 1}")}) for i in range(1, MAX_TASKS))]
    assert len(plan(*chain).links) == MAX_TASKS - 1


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ([], [""]),
        ({}, ["tasks"]),
        ({"tasks": "abc"}, ["tasks"]),
        ({"tasks": [5, {"id": 1, "node": "n"}, {"id": "a"}]}, ["tasks.0", "tasks.1.id", "tasks.2.node"]),
        ({"tasks": [{"id": "a", "node": "n", "arguments": 5, "x": 1}]}, ["tasks.0.arguments", "tasks.0.x"]),
        ({"tasks": [{"id": "a", "node": "n"}], "taks": 1, "extra": 2}, ["extra", "taks"]),
        ({"tasks": [{"id": "a", "node": "n"}], "missing": 5}, ["missing"]),
        ({"tasks": [{"id": "a", "node": "n"}], "missing": "Why?"}, ["missing"]),
    ],
)
def test_a_malformed_plan_is_explained_whole(data: Any, keys: list[str]) -> None:
    with pytest.raises(InvalidPlan) as caught:
        Plan.from_json(data)
    assert [problem.key for problem in caught.value.problems] == keys


def test_arguments_nested_without_end_are_refused() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    with pytest.raises(InvalidPlan, match="nested deeper"):
        Plan.from_json({"tasks": [{"id": "a", "node": "n", "arguments": {"x": value}}]})


def test_what_only_looks_like_a_reference_is_a_value() -> None:
    for value in ({"$ref": 5}, {"$ref": "a", "more": 1}, {"ref": "a"}):
        assert list(references(from_refs(value))) == []
        assert from_refs(value) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_value_survives_the_reading_of_references(value: Any) -> None:
    assert from_refs(to_refs(value)) == value


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_a_plan_is_built_exactly_when_it_has_no_cycle(edges: set[tuple[int, int]]) -> None:
    tasks = [Task(f"t{i}", "n", {"x": [Ref(f"t{a}") for a, b in edges if b == i]}) for i in range(10)]
    network = nx.DiGraph(list(edges))
    try:
        made = plan(*tasks)
    except InvalidPlan:
        assert not nx.is_directed_acyclic_graph(network)
    else:
        assert nx.is_directed_acyclic_graph(network)
        assert set(made.links) == {(f"t{a}", f"t{b}") for a, b in edges}


@pytest.mark.parametrize(
    "data",
    [
        {"tasks": [1] * (MAX_TASKS + 1)},
        {"tasks": [1] * MAX_TASKS},
        {"tasks": [{"id": "x" * 100_000, "node": "n"}]},
        {"tasks": [{"id": "x", "node": "n", "arguments": {"a": {"$ref": "y" * 100_000}}}]},
        {"tasks": [{"id": "x", "node": ["y" * 100_000]}], "output": "z" * 100_000},
    ],
)
def test_what_is_wrong_is_said_briefly(data: Any) -> None:
    with pytest.raises(InvalidPlan) as caught:
        Plan.from_json(data)
    assert len(caught.value.message) < 20_000
