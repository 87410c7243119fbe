"""One suite for every `StateStore`: what the protocol promises, asked of each implementation."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from graph.stores import StateStore, make_store, open_store

SHARED = ("sqlite", "redis")
ODD = ("plain", "with:colon", "with/slash", "glob*[a-z]?", "ümläut 名", "nul\0inside", "{braces}", "a'b\"c", "%3A", "")


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/deep/folder/state.db"
    return str(request.getfixturevalue("redis_url")).removesuffix("/0") + "/1"


@pytest.fixture
async def store(url: str) -> AsyncIterator[StateStore]:
    if url.startswith("redis"):
        client = Redis.from_url(url)
        await client.flushdb()
        await client.aclose()
    store = await open_store(url)
    yield store
    await store.aclose()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        shared = metafunc.definition.get_closest_marker("shared")
        metafunc.parametrize("kind", SHARED if shared else ("memory", *SHARED))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


async def until_gone(store: StateStore, table: str, key: str) -> None:
    async def gone() -> bool:
        return await store.get(table, key) is None

    await until(gone)


async def test_values_come_and_go(store: StateStore) -> None:
    assert await store.get("t", "k") is None
    await store.put("t", "k", b"one")
    await store.put("t", "k", b"two")
    assert await store.get("t", "k") == b"two"
    assert await store.delete("t", "k") is True
    assert await store.delete("t", "k") is False
    assert await store.get("t", "k") is None


@pytest.mark.parametrize("value", [b"", b"\0", b"a\0b\xff\xfe", bytes(range(256)), b"x" * 1_000_000])
async def test_values_are_any_bytes(store: StateStore, value: bytes) -> None:
    await store.put("t", "k", value)
    assert await store.get("t", "k") == value
    assert await store.swap("t", "k", value, b"next")
    await store.append("log", [value, value])
    assert await store.read("log") == [(1, value), (2, value)]


async def test_names_with_odd_characters_stay_apart(store: StateStore) -> None:
    names = [(table, key) for table in ODD for key in ODD]
    for index, (table, key) in enumerate(names):
        await store.put(table, key, str(index).encode())
    for index, (table, key) in enumerate(names):
        assert await store.get(table, key) == str(index).encode()
    for table in ODD:
        assert set(await store.scan(table)) == set(ODD)
    await store.delete("with:colon", "plain")
    assert len(await store.scan("with:colon")) == len(ODD) - 1
    assert len(await store.scan("plain")) == len(ODD)


async def test_tables_whose_names_join_to_the_same_text_stay_apart(store: StateStore) -> None:
    await store.put("a:b", "c", b"1")
    await store.put("a", "b:c", b"2")
    assert await store.scan("a:b") == {"c": b"1"}
    assert await store.scan("a") == {"b:c": b"2"}
    assert await store.scan("nothing") == {}


async def test_logs_counters_and_values_have_names_of_their_own(store: StateStore) -> None:
    await store.put("n", "n", b"value")
    await store.append("n", [b"item"])
    await store.add("n", 2, ttl_s=60)
    assert await store.get("n", "n") == b"value"
    assert await store.read("n") == [(1, b"item")]
    assert await store.scan("n") == {"n": b"value"}


async def test_swap_needs_the_expected_value(store: StateStore) -> None:
    assert not await store.swap("t", "k", b"old", b"new")
    assert await store.swap("t", "k", None, b"")
    assert not await store.swap("t", "k", None, b"new")
    assert await store.swap("t", "k", b"", b"1")
    assert not await store.swap("t", "k", b"", b"2")
    assert await store.get("t", "k") == b"1"


async def test_concurrent_swaps_have_one_winner(store: StateStore) -> None:
    won = await asyncio.gather(*(store.swap("t", "k", None, str(i).encode()) for i in range(50)))
    assert won.count(True) == 1
    assert await store.get("t", "k") == str(won.index(True)).encode()


async def test_concurrent_increments_by_swap_lose_nothing(store: StateStore) -> None:
    async def increment() -> None:
        while True:
            before = await store.get("t", "n")
            if await store.swap("t", "n", before, str(int(before or 0) + 1).encode()):
                return

    await asyncio.gather(*(increment() for _ in range(20)))
    assert await store.get("t", "n") == b"20"


async def test_counters_add_up(store: StateStore) -> None:
    sums = await asyncio.gather(*(store.add("c", 0.5, ttl_s=60) for _ in range(40)))
    assert sorted(sums) == [0.5 * i for i in range(1, 41)]
    assert await store.add("c", -20, ttl_s=60) == 0
    assert await store.add("other", 1, ttl_s=60) == 1


async def test_counter_expires_after_its_first_use(store: StateStore) -> None:
    assert await store.add("c", 5, ttl_s=0.2) == 5

    async def starts_again() -> bool:  # though adding goes on all the time
        return await store.add("c", 1, ttl_s=0.2) == 1

    await until(starts_again)


async def test_values_expire(store: StateStore) -> None:
    await store.put("t", "short", b"1", ttl_s=0.1)
    await store.put("t", "long", b"1", ttl_s=60)
    await store.put("t", "kept", b"1")
    assert await store.swap("t", "swapped", None, b"1", ttl_s=0.1)
    await until_gone(store, "t", "short")
    await until_gone(store, "t", "swapped")
    assert set(await store.scan("t")) == {"long", "kept"}
    assert await store.delete("t", "short") is False
    assert await store.swap("t", "short", None, b"again")


async def test_a_new_value_sets_its_own_expiry(store: StateStore) -> None:
    await store.put("t", "k", b"1", ttl_s=0.1)
    await store.put("t", "k", b"2")
    await store.put("t", "clock", b"", ttl_s=0.2)
    await until_gone(store, "t", "clock")
    assert await store.get("t", "k") == b"2"
    assert await store.scan("t") == {"k": b"2"}


async def test_log_ids_rise_by_one_under_concurrency(store: StateStore) -> None:
    batches = [[f"{i}.{j}".encode() for j in range(1 + i % 3)] for i in range(60)]
    lasts = await asyncio.gather(*(store.append("log", batch) for batch in batches))
    items = await store.read("log")
    assert [id for id, _ in items] == list(range(1, sum(map(len, batches)) + 1))
    values = dict(items)
    for batch, last in zip(batches, lasts, strict=True):  # a batch lies together, and its answer is its last id
        assert [values[last - len(batch) + 1 + j] for j in range(len(batch))] == batch


async def test_read_after_limit_and_latest(store: StateStore) -> None:
    assert await store.read("log") == []
    assert await store.latest("log") == []
    assert await store.append("log", []) == 0
    assert await store.append("log", [b"%d" % i for i in range(1, 11)]) == 10
    assert await store.append("log", []) == 10
    assert await store.read("log", after=8) == [(9, b"9"), (10, b"10")]
    assert await store.read("log", after=10) == []
    assert await store.read("log", after=99) == []
    assert await store.read("log", after=2, limit=2) == [(3, b"3"), (4, b"4")]
    assert await store.latest("log", limit=2) == [(9, b"9"), (10, b"10")]
    assert len(await store.latest("log", limit=50)) == 10


async def test_keep_drops_the_oldest(store: StateStore) -> None:
    await store.append("log", [b"%d" % i for i in range(1, 8)], keep=3)
    assert await store.read("log") == [(5, b"5"), (6, b"6"), (7, b"7")]
    assert await store.append("log", [b"8"], keep=3) == 8
    assert await store.read("log", after=2) == [(6, b"6"), (7, b"7"), (8, b"8")]
    assert await store.read("log", after=6, limit=1) == [(7, b"7")]


async def test_drop_forgets_one_log(store: StateStore) -> None:
    await store.append("log", [b"1", b"2"])
    await store.append("other", [b"1"])
    await store.drop("log")
    await store.drop("never was")
    assert await store.read("log") == []
    assert await store.read("other") == [(1, b"1")]
    assert await store.append("log", [b"new"]) == 1


async def test_a_log_expires_after_its_last_append(store: StateStore) -> None:
    await store.append("log", [b"1"], ttl_s=0.1)
    await store.append("kept", [b"1"], ttl_s=0.1)
    await store.append("kept", [b"2"])

    async def gone() -> bool:
        return await store.read("log") == []

    await until(gone)
    assert await store.latest("log") == []
    assert await store.append("log", [b"new"]) == 1
    assert await store.read("log") == [(1, b"new")]
    assert len(await store.read("kept")) == 2


async def test_a_caller_who_gives_up_harms_nobody(store: StateStore) -> None:
    tasks = [asyncio.create_task(store.append("log", [b"x"])) for _ in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) >= 19
    assert await store.append("log", [b"y"]) == (await store.latest("log", limit=1))[0][0]


@pytest.mark.shared
async def test_two_stores_on_one_address_see_each_other(store: StateStore, url: str) -> None:
    other = await open_store(url)
    await store.put("t", "k", b"1")
    assert await other.get("t", "k") == b"1"
    assert await other.swap("t", "k", b"1", b"2")
    assert not await store.swap("t", "k", b"1", b"3")
    both = await asyncio.gather(*(s.append("log", [b"x"]) for s in (store, other) for _ in range(30)))
    assert sorted(both) == list(range(1, 61))
    assert await store.add("c", 1, ttl_s=60) + await other.add("c", 1, ttl_s=60) == 3
    await other.aclose()


@pytest.mark.shared
async def test_everything_survives_reopening(store: StateStore, url: str) -> None:
    await store.put("t", "k", b"1")
    await store.append("log", [b"1", b"2"])
    await store.add("c", 1.5, ttl_s=60)
    await store.aclose()
    again = await open_store(url)
    assert await again.get("t", "k") == b"1"
    assert await again.append("log", [b"3"]) == 3
    assert await again.add("c", 1, ttl_s=60) == 2.5
    await again.aclose()


WRITER = """
import asyncio, sys
from graph.stores import open_store
async def main():
    store = await open_store(sys.argv[1])
    for _ in range(40):
        await store.append("log", [sys.argv[2].encode()])
        while True:
            before = await store.get("t", "n")
            if await store.swap("t", "n", before, str(int(before or 0) + 1).encode()):
                break
    await store.aclose()
asyncio.run(main())
"""


@pytest.mark.shared
async def test_processes_write_at_the_same_time(store: StateStore, url: str) -> None:
    writers = [await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, str(i)) for i in range(3)]
    assert [await writer.wait() for writer in writers] == [0, 0, 0]
    items = await store.read("log")
    assert [id for id, _ in items] == list(range(1, 121))
    assert {value: sum(v == value for _, v in items) for value in (b"0", b"1", b"2")} == {b"0": 40, b"1": 40, b"2": 40}
    assert await store.get("t", "n") == b"120"


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/db", "sqlite://relative.db", "sqlite:///", "sqlite:///a?b=1"]
)
def test_addresses_that_name_no_store_are_explained(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:.*" if url.startswith("sqlite") else r"valid: memory://.*redis://"):
        make_store(url)


@pytest.mark.parametrize("port", ["99999", "no-number"])
def test_a_wrong_port_is_refused_without_the_password(port: str) -> None:
    with pytest.raises(ValueError, match="not the address") as caught:
        make_store(f"redis://:hunter2@localhost:{port}/0")
    assert "hunter2" not in str(caught.value)


def test_a_store_holds_state_of_its_own_process_only_in_memory() -> None:
    unique = uuid.uuid4().hex
    first, second = make_store("memory://"), make_store("memory://")

    async def check() -> None:
        await first.put("t", unique, b"1")
        assert await second.get("t", unique) is None

    asyncio.run(check())
