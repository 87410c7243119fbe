"""Runs with tasks that must not be repeated, over the death of their process."""

from __future__ import annotations

import asyncio

import pytest
from fakes import HANG, answer, chat
from test_runs import Process
from waiting import until

import deployments.runs
from graph.plan import Plan, Task
from graph.stores.memory import MemoryStore

PLAN = Plan((Task("t1", "a", {"prompt": "look"}), Task("t2", "b", {"prompt": "pay"}, idempotent=False)), "t2")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.runs, "RENEW_S", 0.02)
    monkeypatch.setattr(deployments.runs, "POLL_S", 0.02)


@pytest.fixture
async def store() -> MemoryStore:
    made = MemoryStore()
    await made.open()
    return made


async def test_a_task_that_was_interrupted_is_unknown_and_not_asked_for_again(store: MemoryStore) -> None:
    first = Process(store, "first", 0.05, a=[answer("from a")], b=[[HANG]])
    id = await first.start(plan=PLAN)
    await until(lambda: "b" in first.invoke.asked())
    await asyncio.sleep(0.02)
    first.die()
    second = Process(store, "second")
    second.runs.open()
    events = await second.follow(id)
    record = await second.runs.get(id)
    assert second.invoke.asked() == []
    assert (record.status, [outcome.status for outcome in record.outcomes]) == ("partial", ["ok", "unknown"])
    assert [e.data["status"] for _, e in events if e.data.get("task") == "t2" and e.type == "task.finished"] == [
        "unknown"
    ]
    await second.runs.aclose(1)


async def test_it_never_begins_where_the_run_is_another_processs_now(store: MemoryStore) -> None:
    slow = Process(store, "slow", 0.01, a=[[0.1, *answer("late")]], b=[answer("never")])
    plan = Plan((PLAN.tasks[0], Task("t2", "b", {"prompt": "pay"}, when=None, idempotent=False)), "t2")
    plan = Plan.from_json(
        plan.to_json() | {"tasks": [plan.tasks[0].to_json(), plan.tasks[1].to_json() | {"when": "has(t1)"}]}
    )
    id = await slow.start(plan=plan)
    await asyncio.sleep(0.03)
    other = Process(store, "other", a=[answer("a")], b=[answer("paid")])
    other.runs.open()
    assert (await other.follow(id))[-1][1].data["status"] == "ok"
    await until(lambda: not slow.runs._works)
    assert (slow.invoke.asked(), other.invoke.asked()) == (["a"], ["a", "b"])
    await other.runs.aclose(1)


async def test_while_it_is_under_way_it_has_no_end(store: MemoryStore) -> None:
    process = Process(store, "p", a=[answer("a")], b=[[HANG]])
    id = await process.start(chat(), PLAN)
    await until(lambda: "b" in process.invoke.asked())
    record = await process.runs.get(id)
    assert [outcome.under_way for outcome in record.outcomes if outcome.task == "t2"] == [True]
    await process.runs.cancel(id)
    assert [o.status for o in (await process.runs.get(id)).outcomes if o.task == "t2"] == ["unknown"]
