"""The runs of the crash test: plans made by a seed, and clients that insist until each is accepted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.crash_service import HEADERS
from benchmarks.crash_upstream import CrashUpstream

NODES = ("remote", "hosted", "once")
INSIST_S = 0.5
"""Pause after a request that got no answer."""


def node_specs(upstream: CrashUpstream, hosted: str) -> list[dict[str, Any]]:
    """Return the nodes: in the gateway, of the kind `hosted`, and one that must not be asked twice."""
    common = {
        "endpoint": upstream.url,
        "arguments": {"key": {"type": "string"}, "ms": {"type": "integer"}},
        "produces": ["json"],
        "params": {"method": "POST", "path": "/work", "body": {"key": "{key}", "ms": "{ms}"}},
    }
    return [
        common | {"name": "remote", "kind": "http", "description": "Works in the gateway."},
        common
        | {"name": "hosted", "kind": hosted, "description": "Works elsewhere.", "scale": {"min": 2, "max": 2}},
        common | {"name": "once", "kind": "http", "description": "Does a thing that counts.", "idempotent": False},
    ]  # fmt: skip


@dataclass
class Accepted:
    """A run that the service has taken on."""

    id: str
    plan: dict[str, Any]
    at: float
    tries: int
    """Requests until one was answered."""
    again: str | None = None
    """The id that the same Idempotency-Key got at the end."""


@dataclass
class Clients:
    """Starts runs at random moments, a few at a time, and counts what was taken on."""

    urls: Sequence[str]
    """Of the gateways; without an answer another one is asked."""
    seed: int
    at_once: int
    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By Idempotency-Key."""
    refused: list[str] = field(default_factory=list)
    """Answers other than 202 that asking again does not change."""

    async def work(self, until: Callable[[], bool]) -> None:
        """Start runs until told to stop; a request that was begun is insisted on."""
        async with httpx.AsyncClient(headers=HEADERS, timeout=20, trust_env=False) as http:
            await asyncio.gather(*(self._client(http, number, until) for number in range(self.at_once)))

    async def _client(self, http: httpx.AsyncClient, number: int, until: Callable[[], bool]) -> None:
        dice, count = random.Random(f"{self.seed}/{number}"), 0  # noqa: S311
        while not until():
            key = f"k{self.seed}-{number}-{count}"
            count += 1
            await self._start(http, key, plan(dice, key))
            await asyncio.sleep(dice.uniform(0.5, 6))

    async def _start(self, http: httpx.AsyncClient, key: str, wanted: dict[str, Any]) -> None:
        tries = 0
        while True:
            tries += 1
            status, body = await post(http, self.urls[(len(self.accepted) + tries) % len(self.urls)], key, wanted)
            if status == 202:
                self.accepted[key] = Accepted(body["id"], wanted, time.time(), tries)
                return
            if 400 <= status < 500 and status != 429:
                self.refused.append(f"{status} {body}")
                return
            await asyncio.sleep(INSIST_S)


async def post(http: httpx.AsyncClient, url: str, key: str, wanted: dict[str, Any]) -> tuple[int, Any]:
    """Ask for a run; 0 if no answer came."""
    try:
        answer = await http.post(f"{url}/v1/runs", json={"plan": wanted}, headers={"Idempotency-Key": key})
        return answer.status_code, answer.json()
    except (httpx.HTTPError, ValueError):
        return 0, None


def plan(dice: random.Random, key: str) -> dict[str, Any]:
    """Return a plan of a few tasks on all kinds of nodes; what each asks of the upstream begins with the key."""
    tasks: list[dict[str, Any]] = []
    for number in range(dice.randint(2, 5)):
        name = f"t{number}"
        work = {"key": f"{key}/{name}", "ms": int(1000 * min(dice.expovariate(1.2), 6))}
        task: dict[str, Any] = {"id": name, "node": dice.choice(NODES), "arguments": work}
        if tasks and dice.random() < 0.7:  # waits for an earlier one
            before = dice.choice(tasks)["id"]
            task["when"] = f"has({before}) || true" if dice.random() < 0.5 else f"size({before}) > 0"
        if dice.random() < 0.25:
            keys = [f"{key}/{name}.{item}" for item in range(dice.randint(2, 4))]
            task |= {"map": {"over": keys, "parallel": 2}, "arguments": work | {"key": {"$expr": "item"}}}
        tasks.append(task)
    return {"tasks": tasks}


def keys_of(task: dict[str, Any]) -> list[str]:
    """Return the keys under which a task asks the upstream."""
    found: list[str] = task["map"]["over"] if "map" in task else [task["arguments"]["key"]]
    return found
