"""Runs that are planned anew, that have a budget, and whose answer a node writes; also over a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes import HANG, FakeInvoke, Step, answer, chat, spec
from opentelemetry.trace import INVALID_SPAN
from waiting import until

import deployments.runs
from deployments.run_slots import RunSlots
from deployments.runs import Runs
from graph.budget import Budget
from graph.errors import InvalidRequest, NodeNotFound, NodeUnavailable, NoNodeFits
from graph.executor import ExecutionLimits
from graph.journal import RunJournal, RunRecord
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.run import RunEvent
from graph.run_options import RunOptions
from graph.stores.memory import MemoryStore
from graph.types import Call

DOWN: list[Step] = [NodeUnavailable("down")]
GRAPH = ModelGraph([spec("a"), spec("b"), spec("c"), spec("chat")])


def plan_of(second: str) -> Plan:
    return Plan(
        (Task("t1", "a", {"prompt": "one"}), Task("t2", second, {"prompt": "two", "context": [Ref("t1")]})), "t2"
    )


class Process:
    """One gateway process's runs; its planner takes the first node that it need not avoid."""

    def __init__(self, store: MemoryStore, name: str, lease_s: float = 15.0, **scripts: list[list[Step]]) -> None:
        self.invoke = FakeInvoke(scripts)
        self.asked: list[tuple[Call, frozenset[str]]] = []
        self.runs = Runs(
            RunJournal(store, name, lease_s), self.invoke, lambda: GRAPH, self._plan, ExecutionLimits(), 64,
            RunSlots(store, 600),
        )  # fmt: skip

    async def _plan(self, call: Call, avoid: frozenset[str]) -> Plan:
        self.asked.append((call, avoid))
        left = [node for node in ("b", "c") if node not in avoid]
        if not left:
            raise NoNodeFits("nobody can", param="messages")
        return plan_of(left[0])

    async def run(self, options: RunOptions, plan: Plan | None = None) -> RunRecord:
        id = await self.runs.start(chat(), plan, span=INVALID_SPAN, options=options)
        return await self.ended(id)

    async def ended(self, id: str) -> RunRecord:
        async with asyncio.timeout(20):
            self.events: list[RunEvent] = [event async for _, event in self.runs.events(id)]
        return await self.runs.get(id)


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryStore]:
    monkeypatch.setattr(deployments.runs, "RENEW_S", 0.02)
    made = MemoryStore()
    await made.open()
    yield made
    await made.aclose()


async def test_the_rest_is_planned_anew_and_what_is_finished_is_kept(store: MemoryStore) -> None:
    process = Process(store, "p", a=[answer("one")], b=[DOWN], c=[answer("two")])
    record = await process.run(RunOptions(replan=2))
    assert (record.status, record.output) == ("ok", "two")
    assert process.invoke.asked() == ["a", "b", "c"]
    assert process.invoke.calls[-1][1].text == "one\n\ntwo"
    assert [avoid for _, avoid in process.asked] == [frozenset(), {"b"}]
    assert "[t1] a gave: one" in process.asked[1][0].messages[0].text
    assert record.plan and [task.id for task in record.plan.tasks] == ["t1", "t2_r1"]
    assert record.plan.replan == 1
    planned = [event.data for event in process.events if event.type == "planned"]
    assert ["because" in data for data in planned] == [False, True]
    assert planned[1]["because"]["t2"]["message"] == "down"


async def test_planning_anew_ends_with_its_bound_or_when_nobody_is_left(store: MemoryStore) -> None:
    for times, asked in ((0, ["a", "b"]), (1, ["a", "b", "c"]), (5, ["a", "b", "c"])):
        process = Process(store, "p", a=[answer("one")], b=[DOWN], c=[DOWN])
        record = await process.run(RunOptions(replan=times))
        assert (record.status, process.invoke.asked()) == ("partial", asked)


async def test_what_was_paid_before_counts_after_planning_anew(store: MemoryStore) -> None:
    process = Process(store, "p", a=[answer("one")], b=[DOWN], c=[answer("two")])
    record = await process.run(RunOptions(Budget(calls=2), replan=2))
    assert (record.status, process.invoke.asked()) == ("partial", ["a", "b"])
    assert "calls: 2 of 2 are made" in (record.output or "")


async def test_a_given_plan_needs_the_request_to_be_planned_anew(store: MemoryStore) -> None:
    process = Process(store, "p")
    with pytest.raises(InvalidRequest, match="give 'input' or 'messages' beside the plan"):
        await process.runs.start(Call(), plan_of("b"), span=INVALID_SPAN, options=RunOptions(replan=1))
    with pytest.raises(NodeNotFound):
        await process.runs.start(chat(), span=INVALID_SPAN, options=RunOptions(writer="nobody"))


async def test_a_deadline_of_the_budget_is_the_runs(store: MemoryStore) -> None:
    process = Process(store, "p", a=[answer("one")], b=[[HANG]])
    record = await process.run(RunOptions(Budget(deadline_s=0.1)))
    assert record.deadline and record.deadline - record.created_at < 0.2
    assert (record.status, (record.outcomes[-1].error or {})["code"]) == ("partial", "deadline_exceeded")


async def test_a_node_writes_the_answer(store: MemoryStore) -> None:
    process = Process(store, "p", a=[answer("one")], b=[answer("two")], chat=[answer("It is one [t1].")])
    record = await process.run(RunOptions(writer="chat"), plan_of("b"))
    assert (record.status, record.output) == ("ok", "It is one [t1].")


async def test_wishes_and_items_survive_a_crash(store: MemoryStore) -> None:
    plan = Plan.from_json(
        {"tasks": [{"id": "t1", "node": "a", "arguments": {"prompt": {"$ref": "item"}}, "map": ["x", "y"]},
                   {"id": "t2", "node": "b", "arguments": {"prompt": "two"}, "when": "size(t1) == 2"}]}
    )  # fmt: skip
    first = Process(store, "first", 0.05, a=[answer("x"), [HANG]])
    id = await first.runs.start(chat(), plan, span=INVALID_SPAN, options=RunOptions(replan=1, writer="chat"))
    await until(lambda: len(first.invoke.calls) == 2)
    await asyncio.sleep(0.02)
    for work in first.runs._works.values():
        assert work.task is not None
        work.task.cancel()
    await asyncio.sleep(0.06)
    second = Process(store, "second", 5, a=[answer("again")], b=[DOWN], c=[answer("two")], chat=[answer("done [t1]")])
    second.runs.open()
    await until(lambda: id in second.runs._works)
    record = await second.ended(id)
    assert (record.status, record.output) == ("ok", "done [t1]")
    assert [call.text for node, call in second.invoke.calls if node == "a"] == ["y", "one"]
    assert second.asked[0][1] == {"b"}
    await second.runs.aclose(1)


async def test_wishes_for_a_plan_that_is_not_made_yet_survive_a_crash(store: MemoryStore) -> None:
    first = Process(store, "first", 0.01)
    await first.runs._journal.accept("run_1", chat(), None, None, RunOptions(Budget(calls=1)))
    await asyncio.sleep(0.02)
    second = Process(store, "second", 5, a=[answer("one")], b=[answer("two")])
    second.runs.open()
    await until(lambda: "run_1" in second.runs._works)
    record = await second.ended("run_1")
    assert (record.status, second.invoke.asked()) == ("partial", ["a"])
    await second.runs.aclose(1)
