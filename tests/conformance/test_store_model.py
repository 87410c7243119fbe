"""Stores against a model in dicts: any sequence of operations gives the same answers."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.stores import StateStore, open_store

NAMES = st.sampled_from(["", "a", "a:b", "ü\0", "*"])
VALUES = st.binary(max_size=6)
OPERATIONS = st.one_of(
    st.tuples(st.just("get"), NAMES, NAMES),
    st.tuples(st.just("put"), NAMES, NAMES, VALUES),
    st.tuples(st.just("delete"), NAMES, NAMES),
    st.tuples(st.just("swap"), NAMES, NAMES, st.none() | VALUES, VALUES),
    st.tuples(st.just("swap_current"), NAMES, NAMES, VALUES),
    st.tuples(st.just("scan"), NAMES),
    st.tuples(st.just("append"), NAMES, st.lists(VALUES, max_size=4), st.none() | st.integers(0, 4)),
    st.tuples(st.just("read"), NAMES, st.integers(0, 12), st.integers(1, 5)),
    st.tuples(st.just("latest"), NAMES, st.integers(1, 5)),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("add"), NAMES, st.integers(-9, 9)),
)


class Model:
    """What a store does, in the fewest words."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.logs: dict[str, tuple[int, list[tuple[int, bytes]]]] = {}
        self.counters: dict[str, float] = {}

    def get(self, table: str, key: str) -> bytes | None:
        return self.values.get((table, key))

    def put(self, table: str, key: str, value: bytes) -> None:
        self.values[table, key] = value

    def delete(self, table: str, key: str) -> bool:
        return self.values.pop((table, key), None) is not None

    def swap(self, table: str, key: str, expected: bytes | None, value: bytes) -> bool:
        if self.get(table, key) != expected:
            return False
        self.put(table, key, value)
        return True

    def swap_current(self, table: str, key: str, value: bytes) -> bool:
        return self.swap(table, key, self.get(table, key), value)

    def scan(self, table: str) -> dict[str, bytes]:
        return {key: value for (t, key), value in self.values.items() if t == table}

    def append(self, log: str, items: list[bytes], keep: int | None) -> int:
        last, kept = self.logs.get(log, (0, []))
        kept = kept + list(zip(itertools.count(last + 1), items, strict=False))
        last += len(items)
        if items:
            self.logs[log] = (last, [item for item in kept if keep is None or item[0] > last - keep])
        return last

    def read(self, log: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        return [item for item in self.logs.get(log, (0, []))[1] if item[0] > after][:limit]

    def latest(self, log: str, limit: int) -> list[tuple[int, bytes]]:
        return self.logs.get(log, (0, []))[1][-limit:]

    def drop(self, log: str) -> None:
        self.logs.pop(log, None)

    def add(self, counter: str, amount: float) -> float:
        self.counters[counter] = self.counters.get(counter, 0.0) + amount
        return self.counters[counter]


async def apply(store: StateStore, prefix: str, name: str, *args: Any) -> Any:
    """Do one operation, under names that belong to this example alone."""
    first, rest = prefix + args[0], args[1:]
    match name:
        case "swap_current":
            key, value = rest
            return await store.swap(first, key, await store.get(first, key), value)
        case "append":
            return await store.append(first, rest[0], keep=rest[1])
        case "read":
            return await store.read(first, after=rest[0], limit=rest[1])
        case "latest":
            return await store.latest(first, limit=rest[0])
        case "add":
            return await store.add(first, rest[0], ttl_s=600)
    return await getattr(store, name)(first, *rest)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_any_sequence_of_operations_answers_like_the_model(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/m.db"}.get(kind) or request.getfixturevalue(
        "redis_url"
    )
    examples = itertools.count()

    @settings(max_examples=25 if kind == "redis" else 60, deadline=None)
    @given(st.lists(OPERATIONS, max_size=40))
    def agree(operations: list[tuple[Any, ...]]) -> None:
        async def run() -> None:
            store, model, prefix = await open_store(url), Model(), f"{kind}{next(examples)}/"
            for name, *args in operations:
                expected = getattr(model, name)(*args)
                assert await apply(store, prefix, name, *args) == expected, (name, args)
            await store.aclose()

        asyncio.run(run())

    agree()
