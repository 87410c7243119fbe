"""Who asks, as a gateway remembers it."""

from __future__ import annotations

import sys

import pytest

from deployments.access.access import REMEMBERED, Access
from deployments.access.api_keys import ApiKeys
from graph.errors import Unauthorized
from graph.stores.memory import MemoryStore


async def test_long_headers_of_strangers_take_no_more_memory_than_short_ones() -> None:
    access = Access(ApiKeys(MemoryStore()), "the-operators")
    for number in range(20):
        with pytest.raises(Unauthorized):
            await access.identify(f"Bearer {number}" + "x" * 60_000)
    assert len(access._known) == 20 <= REMEMBERED
    assert sum(map(sys.getsizeof, access._known)) < 20 * 200
    assert (await access.identify("Bearer the-operators")).is_admin


async def test_a_long_operators_key_is_known_each_time() -> None:
    access = Access(ApiKeys(MemoryStore()), "k" * 300)
    for _ in range(2):
        assert (await access.identify("Bearer " + "k" * 300)).is_admin
    for wrong in ("k" * 299, "k" * 301):
        with pytest.raises(Unauthorized):
            await access.identify(f"Bearer {wrong}")
