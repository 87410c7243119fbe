"""Tasks that must not be repeated: tried once, noted before they begin, and unknown after an interruption."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeInvoke, Step, answer, chat, spec

from graph.errors import (
    DeadlineExceeded,
    InvalidPlan,
    InvalidRequest,
    ModelyardError,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)
from graph.executor import execute
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.run import Outcome, RunEvent, RunResult
from graph.task import Map

ONCE = Task("t1", "once", {"prompt": "pay"}, idempotent=False)
PLAN = Plan(
    (Task("t0", "a", {"prompt": "look"}), ONCE, Task("t2", "a", {"prompt": "tell", "context": [Ref("t1")]})), "t2"
)
MANY = Plan((Task("t1", "once", {"prompt": "pay"}, map=Map(["x", "y", "z"], 1)),), "t1")


class Trial:
    """One execution; `begun` are the outcomes that were noted before anything was asked."""

    def __init__(self, *steps: Step, by_node: bool = False) -> None:
        self.invoke = FakeInvoke({"a": [answer("from a")], "once": [list(steps) or answer("paid")]})
        self.graph = ModelGraph([spec("a"), spec("once", idempotent=not by_node)])
        self.begun: list[tuple[Outcome, int]] = []
        self.events: list[RunEvent] = []

    async def __call__(self, plan: Plan = PLAN, done: list[Outcome] | None = None) -> RunResult:
        return await execute(
            plan, self.invoke, graph=self.graph, request=chat(), on_event=self._note, done=done, on_begin=self._begin
        )

    async def _note(self, event: RunEvent) -> None:
        self.events.append(event)

    async def _begin(self, outcome: Outcome) -> None:
        self.begun.append((outcome, len(self.invoke.calls)))

    def reported(self) -> list[tuple[Any, Any]]:
        return [(e.data["task"], e.data["status"]) for e in self.events if e.type in ("task.finished", "task.skipped")]


@pytest.mark.parametrize("by_node", [False, True])
async def test_it_is_noted_before_it_is_asked_for_and_gets_a_single_attempt(by_node: bool) -> None:
    trial = Trial(by_node=by_node)
    plan = Plan((Task("t1", "once", {"prompt": "pay"}, idempotent=by_node),), "t1")
    assert (await trial(plan)).status == "ok"
    [(outcome, calls)] = trial.begun
    assert (outcome.task, outcome.status, outcome.under_way, calls) == ("t1", "unknown", True, 0)
    assert trial.invoke.calls[0][1].context.attempts == 1
    plain = Trial()
    assert (await plain(Plan((Task("t1", "a", {"prompt": "look"}),), "t1"))).status == "ok"
    assert (plain.begun, plain.invoke.calls[0][1].context.attempts) == ([], None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NodeUnreachable("dropped"), "unknown"),
        (StreamBroken("cut"), "unknown"),
        (DeadlineExceeded("first_token", 1), "unknown"),
        (NodeUnavailable("garbled"), "unknown"),
        (NodeUnavailable("busy", status=503), "failed"),
        (NodeRejected("no", status=400), "failed"),
        (InvalidRequest("no"), "failed"),
    ],
    ids=lambda value: (
        type(value).__name__ + str(getattr(value, "status", "")) if isinstance(value, Exception) else value
    ),
)
async def test_only_an_answer_tells_that_it_was_not_done(error: ModelyardError, status: str) -> None:
    trial = Trial(error)
    result = await trial()
    assert [outcome.status for outcome in result.outcomes] == ["ok", status, "skipped"]
    assert result.status == "partial"


async def test_a_call_that_was_never_made_has_failed() -> None:
    refusal = NodeUnavailable("the breaker is open")
    refusal.attempts = 0
    assert [outcome.status for outcome in (await Trial(refusal)()).outcomes] == ["ok", "failed", "skipped"]


async def test_after_an_interruption_it_is_unknown_and_not_asked_for() -> None:
    first = Trial()
    result = await first()
    marker = first.begun[0][0]
    second = Trial()
    again = await second(done=[result.outcomes[0], marker])
    assert second.invoke.asked() == [] and second.begun == []
    assert [outcome.status for outcome in again.outcomes] == ["ok", "unknown", "skipped"]
    assert (again.outcomes[1].error or {})["code"] == "outcome_unknown" and again.outcomes[1].ended_at
    assert second.reported() == [("t1", "unknown"), ("t2", "skipped")]
    third = Trial()  # what was said of it stands
    assert [o.status for o in (await third(done=list(again.outcomes))).outcomes] == ["ok", "unknown", "skipped"]
    assert third.invoke.asked() == []


@pytest.mark.parametrize(
    "error", [NodeRejected("no", status=400), NodeUnreachable("dropped")], ids=["failed", "unknown"]
)
async def test_what_had_ended_badly_is_not_tried_again_either(error: ModelyardError) -> None:
    result = await Trial(error)()
    again = Trial()
    resumed = await again(done=list(result.outcomes))
    assert resumed.outcomes[1].status == result.outcomes[1].status
    assert again.invoke.asked() == []


async def test_items_are_noted_one_by_one_and_those_not_begun_go_on() -> None:
    first = Trial(by_node=True)
    await first(MANY)
    assert [outcome.index for outcome, _ in first.begun] == [0, 1, 2]
    items = [event.outcome for event in first.events if event.type == "task.item" and event.outcome]
    second = Trial(by_node=True)
    result = await second(MANY, [items[0], first.begun[1][0]])
    assert [part.status for part in result.outcomes[0].parts] == ["ok", "unknown", "ok"]
    assert len(second.invoke.calls) == 1
    told = [event.data for event in second.events if event.type == "task.item"]
    assert [(item["index"], item["status"]) for item in told] == [(1, "unknown"), (2, "ok")]


def test_plans_say_it_and_wrong_values_are_named() -> None:
    data = {"tasks": [{"id": "t1", "node": "a", "arguments": {"prompt": "x"}, "idempotent": False}]}
    plan = Plan.from_json(data)
    assert not plan.tasks[0].idempotent and Plan.from_json(plan.to_json()) == plan
    with pytest.raises(InvalidPlan, match=r"tasks\.0\.idempotent: must be true or false; got"):
        Plan.from_json({"tasks": [data["tasks"][0] | {"idempotent": "no"}]})
