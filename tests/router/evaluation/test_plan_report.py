"""Figures about plans, on rows small enough to count by hand."""

from __future__ import annotations

from graph.plan import Ref, Task
from router.evaluation.plan_report import Planned, arguments, report
from router.planners.toolset import Draft
from router.training.plan_data import PlanRow, to_row


def gold(*nodes: str, links: tuple[tuple[str, str], ...] = ()) -> Draft:
    return Draft(tuple(Task(f"var{i}", node) for i, node in enumerate(nodes, 1)), links)


def planned(wanted: Draft | None, made: Draft, *, valid: bool = True) -> Planned:
    return Planned(PlanRow("1", "Book a flight, then send a mail to her.", wanted), made, valid, 0.002)


def test_f1_is_that_of_each_request_averaged() -> None:
    right = gold("a", "b", links=(("var1", "var2"),))
    found = report([planned(right, right), planned(right, gold("a")), planned(gold("c"), gold("d"), valid=False)])
    assert found["node_f1"] == round((1 + 2 / 3 + 0) / 3, 4)
    assert found["edge_f1"] == round((1 + 0 + 1) / 3, 4)
    assert found["exact"] == 0.3333 and found["planned"] == 1.0
    assert found["valid"] == 0.6667 and found["collapsed"] == 0.5 and found["argument_f1"] is None
    assert found["p50_ms"] == 2.0


def test_unseen_are_the_plans_whose_sequence_training_lacks() -> None:
    rows = [planned(gold("a", "b"), gold("a", "b")), planned(gold("b"), gold("a"))]
    assert report(rows, {("a", "b")})["unseen"]["rows"] == 1
    assert report(rows, {("a", "b")})["unseen"]["node_f1"] == 0.0
    assert report(rows)["unseen"]["rows"] == 2


def test_values_are_compared_by_meaning_and_references_by_node_and_field() -> None:
    wanted = Draft(
        (Task("var1", "a", {"x": "5", "y": "Rome"}), Task("var2", "b", {"m": "Id: $var1.id$", "n": "$var1.id$"}))
    )
    made = Draft((Task("t9", "a", {"x": 5, "y": "rome "}), Task("t2", "b", {"n": Ref("t9", ("id",))})))
    assert arguments(wanted) - arguments(made) == {("b", "m", "id: <a.id>")}
    assert arguments(made) <= arguments(wanted)


def test_a_plan_is_written_in_the_form_of_its_file() -> None:
    made = Draft((Task("t1", "a"), Task("t2", "b", {"n": [Ref("t1", ("id",))]})))
    assert to_row(PlanRow("7", "x", gold("a")), made) == {
        "id": "7",
        "tasks": [
            {"id": "var1", "node": "a", "arguments": {}},
            {"id": "var2", "node": "b", "arguments": {"n": ["$var1.id$"]}},
        ],
        "links": [["var1", "var2"]],
    }


def test_without_plans_to_compare_only_what_can_be_told_is_told() -> None:
    found = report([planned(None, gold("a"))])
    assert found["node_f1"] is None and found["valid"] == 1.0 and found["collapsed"] == 1.0
