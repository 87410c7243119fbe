"""Waits for a store that is away, so that work in progress outlives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_S = 0.25
"""Pause before the store is asked again."""


async def patiently(write: Callable[[], Awaitable[T]], until: float) -> T:
    """Write to the store; while it is away, again and again until a moment, in seconds since the epoch.

    Raises `ConnectionError` after that. What is written must bear being written twice: an answer can be lost.
    """
    while True:
        try:
            return await write()
        except ConnectionError:
            if time.time() >= until:
                raise
        await asyncio.sleep(LOOK_S)
