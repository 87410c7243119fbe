"""Minutes of mixed traffic with faults: what grows in the service, and whether every request was answered.

python -m benchmarks.soak [--minutes 30] [--clients 6]

Clients ask in random ways (routed, by name, streamed, a run, a plan), of healthy nodes and of such that play the
sixteen upstream faults, leave in mid-stream, and send what is no request; nodes are added and removed. Memory, file
descriptors, threads and processes of the whole service are taken every ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks import services
from benchmarks.fault_upstream import FAULTS, FaultUpstream, fault_upstream
from benchmarks.faults import MODELYARD, modelyard
from benchmarks.gateway import RESULTS
from benchmarks.load import rss_mb
from router.evaluation.svg import Series, line_chart

SAMPLE_S = 10.0
ANSWER_S = 60.0
BAD = ({"messages": []}, {"model": "none-such", "messages": [{"role": "user", "content": "x"}]}, ["no", "request"])
NODE = """\
name: visitor
kind: openai
endpoint: {url}
model: steady
description: Comes and goes.
examples: [Who is there now?, Is anybody visiting?]
"""


@dataclass(frozen=True)
class Sample:
    """The whole service at one moment."""

    minute: float
    rss_mb: float
    gateway_mb: float
    descriptors: int
    threads: int
    processes: int
    requests: int


def main() -> None:
    """Run it, print what grew, keep the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    samples, ends = asyncio.run(_soak(arguments))
    growth = {name: _growth(samples, name) for name in ("rss_mb", "gateway_mb", "descriptors", "threads", "processes")}
    result = {"settings": vars(arguments), "ends": dict(ends), "growth": growth, "samples": [*map(asdict, samples)]}
    print(json.dumps({"ends": result["ends"], "growth": growth}, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "soak.svg").write_text(_chart(samples) + "\n", encoding="utf-8")


async def _soak(arguments: argparse.Namespace) -> tuple[list[Sample], Counter[str]]:
    async with fault_upstream() as upstream:
        with tempfile.TemporaryDirectory() as folder:
            context = modelyard(Path(folder), upstream.url, 1.0, gateway_only=False)
            service = await asyncio.to_thread(context.__enter__)
            try:
                return await _traffic(service, upstream, arguments)
            finally:
                await asyncio.to_thread(context.__exit__, None, None, None)


async def _traffic(
    service: services.Service, upstream: FaultUpstream, arguments: argparse.Namespace
) -> tuple[list[Sample], Counter[str]]:
    ends: Counter[str] = Counter()
    samples: list[Sample] = []
    begun = time.monotonic()
    url = f"http://127.0.0.1:{service.port}"
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S, trust_env=False) as http:
        clients = [
            asyncio.create_task(_client(http, random.Random(arguments.seed * 1000 + number), ends))  # noqa: S311 - repeatable
            for number in range(arguments.clients)
        ]
        clients.append(asyncio.create_task(_visits(http, upstream.url, ends)))
        while time.monotonic() < begun + arguments.minutes * 60:
            await asyncio.sleep(SAMPLE_S)
            upstream.attempts.clear()  # its own memory is not what is measured
            minute = (time.monotonic() - begun) / 60
            samples.append(await asyncio.to_thread(_sample, service, minute, ends.total()))
            print(samples[-1], flush=True)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return samples, ends


async def _client(http: httpx.AsyncClient, dice: random.Random, ends: Counter[str]) -> None:
    """Ask one thing after the other, and count how each ended."""
    while True:
        fault = dice.choice([*FAULTS, *["steady"] * 16])
        way = dice.choice([*MODELYARD, "leaves", "bad"])
        try:
            if way == "bad":
                answer = await http.post("/v1/chat/completions", json=dice.choice(BAD))
                end = f"refused {answer.status_code}"
            elif way == "leaves":
                await _leave(http, fault, dice.random())
                end = "left"
            elif fault == "steady":
                answer = await http.post("/v1/chat/completions", json=_body("steady", stream=False))
                end = f"answered {answer.status_code}"
            else:
                got = await MODELYARD[way](http, fault)
                end = "answered" if got.text else f"error {(got.error or {}).get('code')}"
        except httpx.HTTPError as error:
            end = f"no answer: {type(error).__name__}"
        except (KeyError, IndexError, ValueError):
            end = "refused"
        ends[end] += 1


async def _leave(http: httpx.AsyncClient, fault: str, seconds: float) -> None:
    async with http.stream("POST", "/v1/chat/completions", json=_body(fault, stream=True)) as answer:
        async for _ in answer.aiter_bytes():
            await asyncio.sleep(seconds)
            return


def _body(model: str, *, stream: bool) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Tell me more."}], "stream": stream}


async def _visits(http: httpx.AsyncClient, url: str, ends: Counter[str]) -> None:
    while True:
        await asyncio.sleep(20)
        put = await http.put(
            "/v1/nodes/visitor", content=NODE.format(url=url), headers={"content-type": "application/yaml"}
        )
        await asyncio.sleep(10)
        gone = await http.delete("/v1/nodes/visitor")
        ends[f"node put {put.status_code}, deleted {gone.status_code}"] += 1


def _sample(service: services.Service, minute: float, requests: int) -> Sample:
    processes = service.processes()
    gateway = [each for each in processes if _is_gateway(each)]
    descriptors = threads = 0
    for process in processes:
        try:
            descriptors, threads = descriptors + process.num_fds(), threads + process.num_threads()
        except psutil.NoSuchProcess:
            continue
    return Sample(minute, rss_mb(processes), rss_mb(gateway), descriptors, threads, len(processes), requests)


def _is_gateway(process: psutil.Process) -> bool:
    try:
        return any("modelyard:gateway" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _growth(samples: list[Sample], name: str) -> dict[str, float]:
    """Compare the last third with the second: in the first, caches fill."""
    values = np.array([getattr(each, name) for each in samples], dtype=float)
    second, last = np.array_split(values, 3)[1:]
    return {"second_third": float(second.mean()), "last_third": float(last.mean()), "most": float(values.max())}


def _chart(samples: list[Sample]) -> str:
    """Draw each value as a share of what it was at first."""
    series = [
        Series(name, [(each.minute, getattr(each, name) / getattr(samples[0], name)) for each in samples])
        for name in ("rss_mb", "gateway_mb", "descriptors", "threads")
    ]
    return line_chart("Mixed traffic with faults", "minutes", "of the first sample", series)


if __name__ == "__main__":
    main()
