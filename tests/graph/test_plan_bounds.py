"""How large a plan may be that a caller gives."""

from __future__ import annotations

import time
from typing import Any

import pytest

from graph.errors import InvalidPlan
from graph.plan_bounds import check_bounds


def task(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "node": "general", "arguments": {"prompt": "x"}} | fields


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"tasks": [task(arguments={"context": [{"$ref": "b"}] * 20_001})]}, "20000 references"),
        ({"tasks": [task(arguments={"context": [{"$expr": "b"}] * 20_001})]}, "20000 references"),
        ({"tasks": [task(when="a" * 1000)] * 60}, "50000 characters of expressions"),
        ({"tasks": [task(repeat={"until": "a" * 2000, "max": 1})] * 30}, "50000 characters of expressions"),
        ({"tasks": [task()], "template": {str(i): "{a}" * 5000 for i in range(10)}}, "50000 characters"),
        ({"tasks": [task()], "answer": ["a"] * 10**6}, "200000 values"),
        ({"tasks": [task()]} | {str(i): 1 for i in range(10**6)}, "200000 values"),
        ({"tasks": [task(arguments={"prompt": [[0] * 1000] * 1000})]}, "200000 values"),
        ([[]] * 10**6, "200000 values"),
    ],
    ids=["refs", "expressions", "conditions", "loops", "templates", "answer", "keys", "lists", "empty"],
)
def test_a_plan_that_is_too_large_is_refused_before_it_costs_anything(plan: Any, said: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidPlan, match=said):
        check_bounds(plan)
    assert time.perf_counter() - began < 2


def test_a_thousand_tasks_are_no_problem() -> None:
    many = [task(id=f"t{i}", when="t0.x > 1", arguments={"a": {"$ref": "t0"}, "b": [1, 2, 3]}) for i in range(1000)]
    check_bounds({"tasks": many, "template": None}, None)
