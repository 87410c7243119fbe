"""Load at a fixed rate, whether or not answers come: a stall is not hidden by clients that wait for it to pass."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import numpy as np

from benchmarks.load import Load

ANSWER_S = 10.0


@dataclass(frozen=True)
class Paced:
    """Latencies from the moment at which a request was due, in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    bad: int

    def to_json(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)


def paced(load: Load, per_s: float, seconds: float) -> Paced:
    """Send `per_s` requests each second and time every answer from when its request was due."""
    latencies = asyncio.run(_send(load, per_s, int(per_s * seconds)))
    good = np.array([each for each in latencies if each is not None] or [ANSWER_S * 1000])
    p50, p99 = np.percentile(good, [50, 99])
    return Paced(per_s, float(p50), float(p99), float(good.max()), latencies.count(None))


async def _send(load: Load, per_s: float, count: int) -> list[float | None]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=load.headers) as session:
        begun = time.perf_counter() + 0.1
        return await asyncio.gather(*(_one(session, load, begun + number / per_s) for number in range(count)))


async def _one(session: aiohttp.ClientSession, load: Load, due: float) -> float | None:
    await asyncio.sleep(due - time.perf_counter())
    try:
        async with session.post(load.url, json=load.body) as answer:
            await answer.read()
            return (time.perf_counter() - due) * 1000 if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None
