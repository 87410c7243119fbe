"""Going on from a plan of which a part failed, and what a run is asked to be beside its plan."""

from __future__ import annotations

import json

import pytest
from fakes import chat

from graph.budget import Budget
from graph.errors import InvalidPlan
from graph.expressions.parser import Expression
from graph.plan import Plan, Ref, Task
from graph.replan import knowing, merged, to_avoid, unhandled
from graph.run import Outcome
from graph.run_options import RunOptions, written_by
from graph.template import Template
from graph.types import Reply, text_payload


def ok(id: str, text: str = "fine") -> Outcome:
    return Outcome(id, f"n-{id}", "ok", Reply(text_payload(text), None, "stop", "n", "n"))


def failed(id: str, code: str = "node_unavailable") -> Outcome:
    return Outcome(id, f"n-{id}", "failed", error={"message": "down", "code": code})


def task(id: str, *needs: str, node: str | None = None, **more: object) -> Task:
    return Task(id, node or f"n-{id}", {"prompt": "go", "context": [Ref(need) for need in needs]}, **more)  # type: ignore[arg-type]


PLAN = Plan((task("t1"), task("t2", "t1"), task("t3", "t2"), task("t4")), "t3", replan=2, budget=Budget(calls=9))
OUTCOMES = [ok("t1"), failed("t2"), Outcome("t3", "n-t3", "skipped", error={"code": "dependency_failed"}), ok("t4")]


def test_finished_tasks_stay_and_the_new_plan_takes_the_place_of_the_rest() -> None:
    made = Plan((task("t1"), task("t2", "t1", node="other"), task("t3", "t2")), "t3", "learned")
    rest = merged(PLAN, OUTCOMES, made)
    assert [t.id for t in rest.tasks] == ["t1", "t4", "t2_r1", "t3_r1"]
    assert (rest.task("t2_r1").node, rest.task("t2_r1").needs, rest.task("t3_r1").needs) == ("other", {"t1"}, {"t2_r1"})
    assert (rest.output, rest.shown, rest.replan, rest.budget) == ("t3_r1", ("t4", "t3_r1"), 1, Budget(calls=9))
    again = merged(rest, [ok("t1"), ok("t4"), failed("t2_r1"), failed("t3_r1")], made)
    assert [t.id for t in again.tasks] == ["t1", "t4", "t2_r2", "t3_r2"]


def test_expressions_of_the_new_plan_follow_the_new_ids() -> None:
    when = Expression.parse("t2.t2 == 't2' && size(tasks['t2']) > 0 && has(t4)")
    made = Plan((task("t2", node="x"), task("t4"), task("t5", when=when)), "t5")
    found = merged(PLAN, OUTCOMES, made).task("t5_r1").when
    assert str(found) == "tasks['t2_r1'].t2 == 't2' && size(tasks['t2_r1']) > 0 && has(t4)"


def test_the_writer_of_the_answer_writes_it_from_the_new_tasks() -> None:
    plan = written_by(PLAN, "chat")
    made = Plan((task("t2", node="x"),), "t2")
    rest = merged(plan, [*OUTCOMES, ok("answer")], made)
    assert (rest.output, rest.answer) == ("answer_r1", ("answer_r1",))
    assert rest.task("answer_r1").composes == ("t1", "t4", "t2_r1")


def test_a_failure_that_the_plan_looks_at_is_no_reason_to_plan_anew() -> None:
    assert [o.task for o in unhandled(PLAN, OUTCOMES)] == ["t2"]
    assert to_avoid(PLAN, unhandled(PLAN, OUTCOMES)) == {"n-t2"}
    instead = Plan((task("t1"), task("t2", when=Expression.parse("status(t1) == 'failed'"))), "t2")
    assert unhandled(instead, [failed("t1"), ok("t2")]) == ()
    assert [o.task for o in unhandled(instead, [failed("t1"), failed("t2")])] == ["t1", "t2"]
    assert unhandled(instead, [failed("t1", "deadline_exceeded"), ok("t2")]) == ()


def test_the_planner_is_told_what_is_known_before_what_is_asked() -> None:
    call = knowing(chat("the request"), PLAN, OUTCOMES)
    assert call.text == "the request"
    assert call.messages[0].text == (
        "What is known so far:\n[t1] n-t1 gave: fine\n[t2] n-t2 failed: down\n[t4] n-t4 gave: fine"
    )


def test_wishes_are_applied_to_a_plan_and_survive_json() -> None:
    template, _ = Template.read("It is {t1}.")
    options = RunOptions(Budget(calls=5, cost=1.0), 1, "chat", template)
    assert RunOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    made = options.apply(PLAN)
    assert (made.budget, made.replan, made.output, made.template) == (Budget(calls=5, cost=1.0), 1, "answer", template)
    assert made.task("answer").composes == ("t1", "t2", "t3", "t4")
    assert RunOptions().apply(PLAN) == PLAN
    with pytest.raises(InvalidPlan, match="template: refers to task 'gone'"):
        RunOptions(template=Template.read("{gone}")[0]).apply(PLAN)


def test_a_writer_gets_an_id_of_its_own() -> None:
    assert written_by(Plan((task("answer"), task("answer2")), "answer"), "chat").output == "answer3"
