from __future__ import annotations

import asyncio

import orjson
import pytest

from deployments.log_reader import LogReader
from graph.stores.memory import MemoryStore

LOG = "opinions"


async def _append(store: MemoryStore, *items: object) -> None:
    await store.append(LOG, [orjson.dumps(item) for item in items], keep=100)


async def _new(reader: LogReader) -> list[object]:
    return [item async for item in reader.new()]


async def test_each_item_is_read_once_and_in_order() -> None:
    store = MemoryStore()
    reader = LogReader(store, LOG)
    await _append(store, 1, 2)
    assert await _new(reader) == [1, 2]
    assert await _new(reader) == []
    await _append(store, 3)
    assert await _new(reader) == [3]


async def test_what_stands_there_already_can_be_left_out() -> None:
    store = MemoryStore()
    await _append(store, "old")
    reader = LogReader(store, LOG, from_now=True)
    assert await _new(reader) == []
    await _append(store, "new")
    assert await _new(reader) == ["new"]


async def test_an_item_whose_handling_fails_is_read_again() -> None:
    store = MemoryStore()
    await _append(store, 1, 2, 3)
    reader = LogReader(store, LOG)
    with pytest.raises(ZeroDivisionError):
        async for item in reader.new():
            1 / (item - 2)
    assert await _new(reader) == [2, 3]


async def test_two_who_ask_at_the_same_time_share_the_items() -> None:
    store = MemoryStore()
    await _append(store, *range(50))
    reader = LogReader(store, LOG)
    found = await asyncio.gather(_new(reader), _new(reader))
    assert sorted([*found[0], *found[1]]) == list(range(50))
