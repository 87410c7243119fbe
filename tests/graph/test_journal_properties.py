"""The journal under any order of acceptances, ends, deaths and take-overs: nothing is lost, nothing ends twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from graph.journal import RunJournal
from graph.plan import Plan, Task
from graph.run import Outcome, RunResult, RunStatus
from graph.stores.base import StateStore
from graph.stores.memory import MemoryStore
from graph.types import Call, Message

LEASE_S = 15.0
TASKS = ("t1", "t2", "t3")
PLAN = Plan(tuple(Task(name, "law") for name in TASKS), "t3")
CALL = Call((Message("user", "Hello"),))
OWNER, RUN, TASK = st.integers(0, 2), st.integers(0, 4), st.sampled_from(TASKS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), OWNER, RUN),
        st.tuples(st.just("task"), OWNER, RUN, TASK, st.sampled_from(["ok", "failed"])),
        st.tuples(st.just("finish"), OWNER, RUN, st.sampled_from(["ok", "partial", "failed"])),
        st.tuples(st.just("claim"), OWNER, st.none() | st.integers(1, 2)),
        st.tuples(st.just("renew"), OWNER),
        st.tuples(st.just("die"), OWNER),
        st.tuples(st.just("wait"), st.floats(0, 2 * LEASE_S)),
    ),
    max_size=50,
)


@dataclass
class World:
    """Three owners of runs, one store, and what must be true of it."""

    store: StateStore
    now: float = 1000.0
    journals: list[RunJournal] = field(default_factory=list)
    noted: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each accepted run: the tasks whose end was noted, and how they ended."""
    ended: dict[str, RunStatus] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journals = [self.owner(number) for number in range(3)]

    def owner(self, number: int) -> RunJournal:
        return RunJournal(self.store, f"owner{number}", LEASE_S, clock=lambda: self.now)

    async def accept(self, owner: int, run: int) -> None:
        if (id := f"r{run}") not in self.noted:
            await self.journals[owner].accept(id, CALL, PLAN)
            self.noted[id] = {}

    async def task(self, owner: int, run: int, task: str, status: str) -> None:
        outcome = Outcome(task, "law", status, ended_at=self.now)  # type: ignore[arg-type]
        if (id := f"r{run}") in self.noted and await self.journals[owner].finished_task(id, outcome):
            self.noted[id][task] = status

    async def finish(self, owner: int, run: int, status: RunStatus) -> None:
        id = f"r{run}"
        rest = tuple(Outcome(task, "law", "skipped") for task in TASKS)
        if id in self.noted and await self.journals[owner].finish(id, RunResult(status, rest, "done")):
            assert id not in self.ended, "it ended before"
            self.ended[id] = status
            self.noted[id] = {task: self.noted[id].get(task, "skipped") for task in TASKS}

    async def claim(self, owner: int, most: int | None) -> None:
        held = {id for other, journal in enumerate(self.journals) if other != owner for id in journal.held}
        fresh = {id for id in held if (await self._until(id)) > self.now}
        claimed = await self.journals[owner].claim_orphans(most)
        assert most is None or len(claimed) <= most
        for orphan in claimed:
            assert orphan.record.id not in self.ended, "it is over"
            assert orphan.record.id not in fresh, "somebody works on it"
            assert (orphan.call.messages, orphan.record.plan) == (CALL.messages, PLAN)

    async def _until(self, id: str) -> float:
        lease = await self.store.get("run-leases", id)
        return float(json.loads(lease)["until"]) if lease else 0.0

    async def renew(self, owner: int) -> None:
        await self.journals[owner].renew()

    async def die(self, owner: int) -> None:
        self.journals[owner] = self.owner(owner)

    async def wait(self, seconds: float) -> None:
        self.now += seconds

    async def check(self) -> None:
        """Every accepted run is there, with all that was noted of it."""
        for id, tasks in self.noted.items():
            record = await self.journals[0].get(id)
            assert record.status == self.ended.get(id, "running")
            assert {outcome.task: outcome.status for outcome in record.outcomes} == tasks

    async def end(self) -> None:
        """Let every owner die: one heir gets every run that did not end, and can end it."""
        self.now += LEASE_S + 1
        heir = self.owner(9)
        orphans = {orphan.record.id for orphan in await heir.claim_orphans()}
        assert orphans == set(self.noted) - set(self.ended)
        for id in orphans:
            assert await heir.finish(id, "failed")


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_nothing_accepted_is_lost_and_nothing_ends_twice(steps: list[tuple[object, ...]]) -> None:
    async def run() -> None:
        world = World(MemoryStore())
        for name, *arguments in steps:
            await getattr(world, str(name))(*arguments)
        await world.check()
        await world.end()

    asyncio.run(run())
