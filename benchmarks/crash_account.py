"""What became of every accepted run: from the service, from the store's journal, and from the upstream."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.crash_runs import Accepted, keys_of, post
from benchmarks.crash_service import HEADERS
from benchmarks.crash_upstream import CrashUpstream, Recorded
from graph.stores import open_store

SLACK_S = 1.0
"""How long after the upstream's answer its outcome may still be on the way to the journal."""


@dataclass
class Account:
    """Counts, and in words whatever is not as it must be."""

    runs: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return {name: dict(getattr(self, name)) for name in ("runs", "tasks", "calls")} | {"wrong": self.wrong}


async def settled(url: str, runs: Sequence[Accepted], patience_s: float) -> list[dict[str, Any] | None]:
    """Wait until every run has ended, and return each as the service shows it; None for one that is not known."""
    limit = time.monotonic() + patience_s
    found: dict[str, dict[str, Any] | None] = {}
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=30, trust_env=False) as http:
        while len(found) < len(runs) and time.monotonic() < limit:
            for run in runs:
                if run.id not in found and (shown := await _shown(http, run.id)) is not None:
                    if shown.get("status") != "running":
                        found[run.id] = shown if "status" in shown else None
            await asyncio.sleep(1)
        for run in runs:
            found.setdefault(run.id, await _shown(http, run.id))
            _, again = await post(http, url, _key(run), run.plan)
            run.again = (again or {}).get("id")
    return [found[run.id] for run in runs]


def _key(run: Accepted) -> str:
    return str(keys_of(run.plan["tasks"][0])[0]).partition("/")[0]


async def _shown(http: httpx.AsyncClient, id: str) -> dict[str, Any] | None:
    try:
        answer = await http.get(f"/v1/runs/{id}")
        shown: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return shown if answer.status_code in (200, 404) else None


async def account(
    runs: Sequence[Accepted], shown: Sequence[dict[str, Any] | None], upstream: CrashUpstream, store: str,
    kills: Sequence[float],
) -> Account:  # fmt: skip
    """Hold every run against what was promised."""
    made = Account()
    journal = await open_store(store)
    try:
        for run, record in zip(runs, shown, strict=True):
            status = record["status"] if record is not None else "lost"
            made.runs[status] += 1
            if status in ("lost", "running"):
                made.wrong.append(f"{run.id} is {status}")
                continue
            assert record is not None  # it is not lost
            if run.again != run.id:
                made.wrong.append(f"{run.id}: its Idempotency-Key now answers {run.again}")
            log = [json.loads(item) for _, item in await journal.read(f"run-outcomes/{run.id}")]
            for task in run.plan["tasks"]:
                _task(made, run, task, record, log, upstream, kills)
    finally:
        await journal.aclose()
    return made


def _task(
    made: Account, run: Accepted, task: dict[str, Any], record: dict[str, Any], log: list[dict[str, Any]],
    upstream: CrashUpstream, kills: Sequence[float],
) -> None:  # fmt: skip
    outcome = next((o for o in record["outcomes"] if o["task"] == task["id"]), None)
    status = outcome["status"] if outcome else "missing"
    made.tasks[status] += 1
    if outcome is None:
        made.wrong.append(f"{run.id} {task['id']} has no outcome, and the run is {record['status']}")
        return
    ended = Counter((o["task"], o["index"] if "index" in o else None) for o in log if o["status"] == "ok")
    for index, key in enumerate(keys_of(task)):
        part = (outcome.get("parts") or [outcome])[index if "map" in task and outcome.get("parts") else 0]
        times = ended[task["id"], index if "map" in task else None]
        if times > 1:
            made.wrong.append(f"{run.id} {task['id']} ({key}) ended well {times} times")
        calls = upstream.calls.get(key, Recorded())
        _calls(made, f"{run.id} {key} on {task['node']}", part, calls, once=task["node"] == "once", kills=kills)


def _calls(
    made: Account, what: str, part: dict[str, Any], calls: Recorded, *, once: bool, kills: Sequence[float]
) -> None:
    count = len(calls.begun)
    made.calls["made"] += count
    made.calls["made to `once`"] += count * once
    if once and part["status"] == "unknown":
        made.calls["unknown"] += 1
        made.calls["unknown, upstream was asked"] += count == 1
    if once and count > 1:
        made.wrong.append(f"{what}: not idempotent, asked {count} times")
    if part["status"] == "ok" and not count:
        made.wrong.append(f"{what}: ok, and the upstream was never asked")
    if part["status"] == "ok" and count and max(calls.begun) > part["ended_at"]:
        made.wrong.append(f"{what}: asked again after it had ended well")
    for before, after in zip(calls.begun, calls.begun[1:], strict=False):
        made.calls["repeated"] += 1
        if not any(before - SLACK_S <= kill <= after for kill in kills):
            made.wrong.append(f"{what}: asked at {before:.2f} and again at {after:.2f}, and nothing was killed between")
