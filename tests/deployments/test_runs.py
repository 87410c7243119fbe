"""Runs: journaled, executed, watched, cancelled, lost, and taken over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes import HANG, FakeInvoke, Step, answer, chat, spec
from opentelemetry.trace import INVALID_SPAN
from waiting import until

import deployments.patience
import deployments.run_work
import deployments.runs
from deployments.run_errors import recall
from deployments.run_slots import RunSlots
from deployments.runs import Runs
from graph import errors
from graph.errors import NodeUnavailable, NoNodeFits
from graph.executor import ExecutionLimits
from graph.journal import RunJournal
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.run import RunEvent
from graph.stores.memory import MemoryStore
from graph.types import Call

PLAN = Plan((Task("t1", "a", {"prompt": "one"}), Task("t2", "b", {"prompt": "two", "context": [Ref("t1")]})), "t2")


class FlakyStore(MemoryStore):
    """A store that can be away."""

    away = False
    missed = 0

    async def append(self, log: str, items: Any, **more: Any) -> int:
        if self.away:
            self.missed += 1
            raise ConnectionError("the store is away")
        return await super().append(log, items, **more)


class Process:
    """One gateway process's runs, on a store that others share."""

    def __init__(
        self, store: MemoryStore, name: str, lease_s: float = 15.0, max_runs: int = 64, **scripts: list[list[Step]]
    ) -> None:
        self.invoke = FakeInvoke(scripts)
        self.journal = RunJournal(store, name, lease_s)
        self.ended: list[str] = []
        self.planned = 0
        self.ready = True
        graph = ModelGraph([spec("a"), spec("b")])
        self.runs = Runs(
            self.journal, self.invoke, lambda: graph, self._plan, ExecutionLimits(), max_runs, RunSlots(store, 600),
            on_end=lambda status, *_: self.ended.append(status), ready=lambda: self.ready,
        )  # fmt: skip

    async def _plan(self, call: Call, avoid: frozenset[str] = frozenset()) -> Plan:
        self.planned += 1
        if call.text == "impossible":
            raise NoNodeFits("nobody can", param="messages")
        return PLAN

    async def start(self, call: Call | None = None, plan: Plan | None = PLAN) -> str:
        return await self.runs.start(call or chat(), plan, span=INVALID_SPAN)

    async def follow(self, id: str, after: int = 0) -> list[tuple[int, RunEvent]]:
        async with asyncio.timeout(20):
            return [item async for item in self.runs.events(id, after)]

    def die(self) -> None:
        """Stop as a killed process does: nothing is noted, and leases are renewed no more."""
        for work in self.runs._works.values():
            assert work.task is not None
            work.task.cancel()
        if self.runs._keeper is not None:
            self.runs._keeper.cancel()


@pytest.fixture
async def store() -> AsyncIterator[FlakyStore]:
    made = FlakyStore()
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.runs, "RENEW_S", 0.02)
    monkeypatch.setattr(deployments.runs, "POLL_S", 0.02)


def text_of(events: list[tuple[int, RunEvent]]) -> str:
    text = ""
    for _, event in events:
        if event.type == "output.delta":
            text = event.data["text"] if event.data.get("reset") else text + event.data["text"]
    return text


async def test_a_run_is_journaled_before_it_is_answered_and_followed_to_its_end(store: FlakyStore) -> None:
    process = Process(store, "p", a=[answer("from a")], b=[answer("from b")])
    id = await process.start()
    assert (await process.journal.get(id)).status == "running"
    events = await process.follow(id)
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    assert (events[0][1].type, events[-1][1].type) == ("planned", "run.finished")
    assert text_of(events) == "from b"
    record = await process.runs.get(id)
    assert (record.status, record.output, [o.status for o in record.outcomes]) == ("ok", "from b", ["ok", "ok"])
    assert process.ended == ["ok"]


async def test_every_event_can_be_resumed_behind(store: FlakyStore) -> None:
    process = Process(store, "p", a=[answer("a")], b=[answer("b b b")])
    id = await process.start()
    events = await process.follow(id)
    for after in range(len(events) + 1):
        assert await process.follow(id, after) == events[after:]


async def test_followers_of_a_local_run_are_woken_and_never_poll(
    store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments.runs, "POLL_S", 1000)
    steps: list[Step] = [step for index in range(50) for step in (f"{index} ", 0.0)]
    process = Process(store, "p", a=[[*steps, *answer("end")]], b=[answer("b")])
    id = await process.start()
    followed = await asyncio.gather(*(process.follow(id) for _ in range(5)))
    assert all(events == followed[0] for events in followed)


async def test_a_token_does_not_wait_for_the_next_one(store: FlakyStore) -> None:
    process = Process(store, "p", a=[["one", "two", HANG]], b=[answer("b")])
    id = await process.start()
    said: list[str] = []
    async with asyncio.timeout(20):
        async for _, event in process.runs.events(id):
            if event.type == "task.delta":
                said.append(event.data["text"])
            if said == ["one", "two"]:
                break
    await process.runs.cancel(id)


async def test_more_events_than_one_reading_holds(store: FlakyStore) -> None:
    process = Process(store, "p", a=[[*["x"] * 2500, *answer("end")]], b=[answer("b")])
    id = await process.start()
    events = await process.follow(id)
    assert sum(event.type == "task.delta" for _, event in events) > 2500
    assert await process.follow(id) == events


async def test_a_failed_task_makes_a_partial_run_that_names_what_is_missing(store: FlakyStore) -> None:
    plan = Plan((Task("t1", "a", {"prompt": "one"}), Task("t2", "b", {"prompt": "two"})), "t2")
    process = Process(store, "p", a=[[NodeUnavailable("no power")]], b=[answer("from b")])
    events = await process.follow(await process.start(plan=plan))
    assert events[-1][1].data["status"] == "partial"
    assert "from b" in text_of(events) and "no power" in text_of(events)


async def test_a_run_that_cannot_be_planned_fails_and_says_why(store: FlakyStore) -> None:
    process = Process(store, "p")
    id = await process.start(chat("impossible"), None)
    last = (await process.follow(id))[-1][1]
    assert last.data["error"] == {"message": "nobody can", "code": "no_node_fits", "param": "messages"}
    assert (await process.runs.get(id)).status == "failed"


async def test_a_bug_fails_the_run(store: FlakyStore, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(store, "p", a=[[RuntimeError("secret")]])
    id = await process.start()
    last = (await process.follow(id))[-1][1]
    assert (last.data["status"], "secret" in str(last.data)) == ("failed", False)


async def test_a_wrong_plan_is_not_accepted(store: FlakyStore) -> None:
    process = Process(store, "p")
    with pytest.raises(errors.InvalidPlan):
        await process.start(plan=Plan((Task("t1", "nobody", {}),), "t1"))
    assert [record async for record in process.runs.newest(10)] == []


async def test_an_unknown_run(store: FlakyStore) -> None:
    with pytest.raises(errors.RunNotFound):
        await Process(store, "p").follow("run_x")


async def test_the_callers_deadline_holds_for_the_whole_run(store: FlakyStore) -> None:
    process = Process(store, "p", a=[[HANG]])
    id = await process.start(chat().with_context(deadline=time.time() + 0.03))
    last = (await process.follow(id))[-1][1]
    assert last.data["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_run_has_failed_and_is_not_taken_over(store: FlakyStore, begun: bool) -> None:
    process = Process(store, "p", a=[[HANG]])
    id = await process.start()
    if begun:
        await until(lambda: process.invoke.running)
    await process.runs.cancel(id)
    record = await process.runs.get(id)
    assert (record.status, (record.error or {})["code"], process.invoke.running) == ("failed", "cancelled", 0)
    assert (await process.follow(id))[-1][1].type == "run.finished"
    assert process.journal.held == frozenset()
    await process.runs.cancel(id)  # nothing more happens


async def test_cancelling_goes_on_when_its_caller_is_cancelled_too(store: FlakyStore) -> None:
    process = Process(store, "p", a=[[HANG]])
    id = await process.start()
    await until(lambda: process.invoke.running)
    caller = asyncio.create_task(process.runs.cancel(id))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert (await process.follow(id))[-1][1].data["status"] == "failed"


async def test_an_orphan_is_taken_over_and_what_was_done_is_not_done_again(store: FlakyStore) -> None:
    first = Process(store, "first", 0.05, a=[answer("from a")], b=[["half", HANG]])
    id = await first.start()
    await until(lambda: "b" in first.invoke.asked())
    await asyncio.sleep(0.03)
    first.die()
    second = Process(store, "second", a=[answer("never")], b=[answer("the whole")])
    second.runs.open()
    events = await second.follow(id)
    assert second.invoke.asked() == ["b"]
    assert [event.type for _, event in events].count("planned") == 1
    finished = [event.data["task"] for _, event in events if event.type == "task.finished"]
    assert finished == ["t1", "t2"]
    assert text_of(events) == "the whole"
    assert (await second.runs.get(id)).status == "ok"
    await second.runs.aclose(1)


async def test_a_run_that_is_taken_over_keeps_its_deadline(store: FlakyStore) -> None:
    first = Process(store, "first", 0.01, a=[[HANG]])
    deadline = time.time() + 0.3
    id = await first.start(chat().with_context(deadline=deadline))
    first.die()
    second = Process(store, "second", a=[[HANG]])
    second.runs.open()
    last = (await second.follow(id))[-1][1]
    assert last.data["error"]["code"] == "deadline_exceeded"
    assert [call.context.deadline for _, call in second.invoke.calls] == [deadline]
    await second.runs.aclose(1)


async def test_a_run_without_a_deadline_gets_that_of_the_process_that_took_it(store: FlakyStore) -> None:
    first = Process(store, "first", 0.01, a=[[HANG]])
    await first.start()
    await until(lambda: first.invoke.running)
    first.die()
    second = Process(store, "second", a=[[HANG]])
    second.runs.open()
    await until(lambda: second.invoke.running)
    deadlines = {call.context.deadline for process in (first, second) for _, call in process.invoke.calls}
    assert len(deadlines) == 1
    await second.runs.aclose(0.01)


async def test_one_run_more_than_there_may_be_is_refused(store: FlakyStore) -> None:
    process = Process(store, "p", max_runs=2, a=[[HANG]], b=[answer("b")])
    started = await asyncio.gather(*(process.start() for _ in range(4)), return_exceptions=True)
    refusals = [error for error in started if isinstance(error, errors.Overloaded)]
    assert (len(refusals), refusals[0].message) == (2, "2 runs are in progress here, the most there may be (max_runs)")
    ids = [id for id in started if isinstance(id, str)]
    assert {record.id async for record in process.runs.newest(10)} == set(ids)
    await process.runs.cancel(ids[0])
    await process.runs.cancel(await process.start())
    await process.runs.cancel(ids[1])


async def test_no_more_orphans_are_taken_over_than_there_may_be_runs(store: FlakyStore) -> None:
    first = Process(store, "first", 0.01, a=[[HANG]])
    ids = [await first.start() for _ in range(3)]
    first.die()
    second = Process(store, "second", max_runs=1, a=[[0.02, *answer("a")]], b=[answer("b")])
    second.runs.open()
    for id in ids:
        assert (await second.follow(id))[-1][1].data["status"] == "ok"
    assert second.invoke.most == 1
    await second.runs.aclose(1)


async def test_orphans_wait_until_nodes_can_be_called(store: FlakyStore) -> None:
    first = Process(store, "first", 0.01, a=[[HANG]])
    id = await first.start()
    first.die()
    second = Process(store, "second", a=[answer("a")], b=[answer("b")])
    second.ready = False
    second.runs.open()
    await asyncio.sleep(0.1)
    assert second.invoke.asked() == []
    second.ready = True
    assert (await second.follow(id))[-1][1].data["status"] == "ok"
    await second.runs.aclose(1)


async def test_a_run_that_is_lost_is_left_without_a_word(store: FlakyStore) -> None:
    slow = Process(store, "slow", 0.01, a=[[HANG]])
    id = await slow.start()
    await until(lambda: slow.invoke.running)
    await asyncio.sleep(0.03)
    other = Process(store, "other", a=[answer("a")], b=[answer("b")])
    other.runs.open()
    await other.follow(id)
    slow.runs.open()
    await until(lambda: not slow.invoke.running)
    events = await other.follow(id)
    assert [event.type for _, event in events].count("run.finished") == 1
    assert (await other.runs.get(id)).status == "ok"
    await slow.runs.aclose(1)
    await other.runs.aclose(1)


async def test_an_owner_that_ends_after_its_lease_is_gone_writes_no_end(store: FlakyStore) -> None:
    slow = Process(store, "slow", 0.01, a=[[0.15, *answer("late")]], b=[answer("late b")])
    id = await slow.start()
    await asyncio.sleep(0.03)
    other = Process(store, "other", a=[answer("a")], b=[[HANG]])
    other.runs.open()
    await until(lambda: "b" in other.invoke.asked())
    await until(lambda: not slow.runs._works)
    assert (await other.runs.get(id)).status == "running"
    assert "run.finished" not in {event.type for _, event in await other.journal.events(id)}
    await other.runs.cancel(id)
    await other.runs.aclose(1)


async def test_a_run_waits_for_a_store_that_is_away(store: FlakyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.patience, "LOOK_S", 0.01)
    process = Process(store, "p", a=[[0.02, *answer("a")]], b=[answer("b")])
    process.runs.open()
    id = await process.start()
    await until(lambda: process.invoke.running)
    store.away = True
    await until(lambda: store.missed > 3)
    assert process.ended == [] and process.invoke.asked() == ["a"]
    store.away = False
    events = await process.follow(id)
    assert (events[-1][1].data["status"], text_of(events)) == ("ok", "b")
    assert [event.type for _, event in events].count("task.finished") == 2
    await process.runs.aclose(1)


async def test_an_end_that_could_not_be_written_is_written_when_the_store_is_back(
    store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments.patience, "LOOK_S", 0.01)
    monkeypatch.setattr(deployments.run_work, "STORE_AWAY_S", 0.0)
    process = Process(store, "p", a=[[0.02, *answer("a")]], b=[answer("b")])
    process.runs.open()
    id = await process.start(chat().with_context(deadline=time.time() + 0.1))
    store.away = True
    await until(lambda: process.ended)
    store.away = False
    assert (await process.follow(id))[-1][1].data["status"] == "failed"
    await process.runs.aclose(1)


async def test_an_end_whose_event_was_never_written_is_told_all_the_same(store: FlakyStore) -> None:
    process = Process(store, "p")
    await process.journal.accept("run_1", chat(), PLAN)
    await process.journal.append_events("run_1", [RunEvent("planned", {})])
    await process.journal.finish("run_1", "failed", output="", error={"message": "x", "code": "y", "param": None})
    assert [event.type for _, event in await process.follow("run_1")] == ["planned", "run.finished"]
    assert [number for number, _ in await process.follow("run_1", 1)] == [2]


async def test_closing_waits_for_runs_and_leaves_the_rest_to_others(store: FlakyStore) -> None:
    process = Process(store, "p", a=[[0.03, *answer("a")]], b=[answer("b")])
    id = await process.start()
    await process.runs.aclose(10)
    assert (await process.runs.get(id)).status == "ok"
    hanging = Process(store, "p", a=[[HANG]])
    id = await hanging.start()
    await hanging.runs.aclose(0.01)
    assert (await process.runs.get(id)).status == "running"


def _instances() -> list[errors.ModelyardError]:
    return [
        errors.InvalidRequest("m", param="p"), errors.UnsupportedParameter("m"), errors.ContextTooLong("m"),
        errors.InvalidPlan([errors.Problem("plan", "", "m")]), errors.NodeNotFound("m"), errors.NoNodeFits("m"),
        errors.ContentRefused("m"), errors.Overloaded("m"), errors.DeadlineExceeded("run", 1), errors.NodeFailed("m"),
        errors.NodeUnreachable("m"), errors.NodeUnavailable("m"), errors.NodeRejected("m"), errors.StreamBroken("m"),
        errors.ModelyardError("m"),
    ]  # fmt: skip


@pytest.mark.parametrize("error", _instances(), ids=lambda error: type(error).__name__)
def test_a_described_error_comes_back_as_what_it_was(error: errors.ModelyardError) -> None:
    again = recall(error.to_json())
    assert (type(again), again.message, again.param) == (type(error), error.message, error.param)
